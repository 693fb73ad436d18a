"""Scores texts with a trained model."""
