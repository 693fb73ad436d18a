"""Downloads pretrained encoders and public data, verifies hashes and caches them."""
