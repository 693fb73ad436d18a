"""Back-translation by Apertium or MarianMT."""
