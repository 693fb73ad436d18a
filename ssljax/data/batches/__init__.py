"""From texts to packed token batches."""
