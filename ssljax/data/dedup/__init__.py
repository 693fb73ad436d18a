"""Finds texts that occur more than once."""
