"""`pip install .` starts here; the metadata is in pyproject.toml."""

from setuptools import setup

setup()
