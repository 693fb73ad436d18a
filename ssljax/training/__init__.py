"""Builds a training run and executes its steps."""
