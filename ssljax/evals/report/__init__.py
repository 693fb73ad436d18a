"""Reports and model cards: plots, HTML and Markdown."""
