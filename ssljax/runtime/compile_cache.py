"""Stores compiled programs in the cache on disk atomically.

JAX 0.10 writes a program straight to its place in the cache, and never replaces one. If
the process is killed meanwhile or the disk is full, a part of the program stays: every
later process warns that it can't read it, and compiles again. Another process may also
read a program that is still being written.
"""

import contextlib
import importlib
from pathlib import Path
from typing import Any

import jax

from ssljax.runtime.atomic import atomic_file


def use(folder: Path) -> None:
  """Makes JAX store compiled programs in `folder`, and look there first."""
  # Not public; in a version of JAX without it, programs are stored as JAX does it.
  with contextlib.suppress(ImportError, AttributeError):
    lru_cache: Any = importlib.import_module("jax._src.lru_cache")
    compilation_cache: Any = importlib.import_module("jax._src.compilation_cache")
    if compilation_cache.LRUCache is lru_cache.LRUCache:
      compilation_cache.LRUCache = _whole_programs(lru_cache)
  jax.config.update("jax_compilation_cache_dir", str(folder))


def _whole_programs(lru_cache: Any) -> type:
  suffix = lru_cache._CACHE_SUFFIX

  class WholePrograms(lru_cache.LRUCache):
    """JAX's cache, but programs are renamed to their place when they are complete."""

    def put(self, key: str, value: bytes) -> None:
      if self.eviction_enabled:  # then JAX locks the folder
        return super().put(key, value)
      path = Path(self.path) / f"{key}{suffix}"
      if not path.exists():
        with atomic_file(path) as file:
          file.write(value)

  return WholePrograms
