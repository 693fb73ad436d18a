"""Views of texts, made once and stored: python -m ssljax.augment."""
