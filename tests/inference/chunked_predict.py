"""`python -m ssljax.predict` with small chunks, so that a short file has many."""

import importlib
import sys

from ssljax import cli

if __name__ == "__main__":
  predict = importlib.import_module("ssljax.predict")  # ssljax.predict is a function
  predict.CHUNK_SIZE = 16
  sys.argv[0] = "predict"
  predict.define_flags()
  cli.run(predict.main)
