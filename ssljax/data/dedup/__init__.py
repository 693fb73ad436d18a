"""Finds duplicate and near-duplicate texts."""
