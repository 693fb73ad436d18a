"""Loads trained models and scores texts with them."""
