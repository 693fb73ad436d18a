"""Datasets: reading records, preparing dataset folders, tokenising, batching."""
