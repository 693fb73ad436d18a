"""Metrics, calibration, thresholds and comparisons of classifiers."""
