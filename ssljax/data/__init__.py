"""From files of texts to packed batches."""
