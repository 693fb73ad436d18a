"""Back-translation with Apertium or MarianMT."""
