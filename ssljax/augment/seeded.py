"""Draws random numbers that depend only on a seed and a text.

They don't depend on the row, the shard or the worker, so every run makes the same
views.
"""

import hashlib

import numpy as np


def number(seed: int, *parts: str | int) -> int:
  """Hashes the seed and the parts, in their order, to 128 bits."""
  digest = hashlib.blake2b(digest_size=16)
  for part in (seed, *parts):
    data = str(part).encode("utf-8", "surrogatepass")
    digest.update(b"%d:" % len(data))  # ("ab", "c") differs from ("a", "bc")
    digest.update(data)
  return int.from_bytes(digest.digest(), "little")


def generator(seed: int, *parts: str | int) -> np.random.Generator:
  """Returns a generator seeded with `number(seed, *parts)`."""
  return np.random.Generator(np.random.PCG64(number(seed, *parts)))
