"""Random numbers that a text and a seed decide, and nothing else.

Not the row, the shard, the order or the worker: a view is the same wherever it is made.
"""

import hashlib

import numpy as np


def number(seed: int, *parts: str | int) -> int:
  """128 bits that depend on the seed and the parts, in their order."""
  digest = hashlib.blake2b(digest_size=16)
  for part in (seed, *parts):
    data = str(part).encode("utf-8", "surrogatepass")
    digest.update(b"%d:" % len(data))  # ("ab", "c") is not ("a", "bc")
    digest.update(data)
  return int.from_bytes(digest.digest(), "little")


def generator(seed: int, *parts: str | int) -> np.random.Generator:
  """A generator that starts from `number`."""
  return np.random.Generator(np.random.PCG64(number(seed, *parts)))
