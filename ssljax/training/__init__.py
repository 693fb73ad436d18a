"""Builds training runs: method, classifier, optimiser, train step, checkpoints."""
