"""Decides which candidate views are kept."""
