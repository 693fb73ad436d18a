"""Keeps the tokens of training files on disk, so that the pool may have any size."""
