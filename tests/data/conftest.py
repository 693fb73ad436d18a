"""Tests against TensorFlow are collected where it is installed, and skipped nowhere."""

import importlib.util

collect_ignore = []
if importlib.util.find_spec("tensorflow_text") is None:
  collect_ignore += ["tftext_test.py"]
