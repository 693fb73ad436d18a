"""Renders reports and model cards: plots, HTML and Markdown."""
