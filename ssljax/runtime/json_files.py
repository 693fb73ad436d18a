"""Writes JSON files, with NaN and infinities as null."""

import json
import math
from pathlib import Path
from typing import Any

from ssljax.runtime.atomic import atomic_file


def write_json(path: str | Path, value: Any) -> None:
  """Writes `value` to `path`, atomically."""
  text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
  with atomic_file(path) as file:
    file.write(f"{text}\n".encode())


def plain(value: Any) -> Any:
  """Converts to JSON types: arrays become lists, non-finite numbers become None."""
  if isinstance(value, dict):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [plain(v) for v in value]
  if hasattr(value, "tolist"):  # NumPy and JAX arrays and scalars
    return plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
