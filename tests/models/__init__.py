"""Tests of ssljax.models; a package, so that they can share small.py."""
