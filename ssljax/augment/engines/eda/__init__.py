"""Easy data augmentation and its relatives."""
