"""The record: reading files into rows and checking them."""
