"""Easy data augmentation (EDA) and related word-level operations."""
