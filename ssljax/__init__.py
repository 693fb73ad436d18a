"""Semi-supervised training of safety classifiers in JAX."""
