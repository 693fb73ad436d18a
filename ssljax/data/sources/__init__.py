"""Reads datasets from named sources, the Hub or files, and writes dataset folders."""
