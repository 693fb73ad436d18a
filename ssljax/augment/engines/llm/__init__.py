"""Paraphrases written by a language model."""
