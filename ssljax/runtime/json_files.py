"""JSON files that are there whole or not at all."""

import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np


def write_json(path: Path, object: Any) -> None:
  """Writes JSON that is there whole or not at all; NaN and infinities become null."""
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  text = json.dumps(plain(object), indent=2, ensure_ascii=False, allow_nan=False)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with open(temporary, "w", encoding="utf-8") as file:
      file.write(text + "\n")
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def plain(value: Any) -> Any:
  """What `write_json` writes: arrays as lists, None for what is not finite."""
  if isinstance(value, dict):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [plain(v) for v in value]
  if isinstance(value, np.ndarray | np.generic | jax.Array):
    return plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
