"""Chooses the texts of an unlabelled pool that are worth labelling next."""
