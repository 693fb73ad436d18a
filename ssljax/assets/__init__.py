"""Pretrained encoders and public data: fetched, verified by hash, cached."""
