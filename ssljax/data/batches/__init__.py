"""Turns texts into packed token batches."""
