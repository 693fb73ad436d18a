"""Parses and validates the config keys that all engines share."""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ssljax.data.records import split_files
from ssljax.data.records.schema import MADE
from ssljax.errors import UserError

FALLBACKS = ("self", "words", "none")
MINIMUM = {
  "views": 1,
  "attempts": 1,
  "limit": 0,
  "shard": 1,
  "workers": 0,
  "seed": 0,
  "least_ratio": 0,
  "most_ratio": 0,
  "most_alike": 0,
  "least_similarity": 0,
}


class Settings(NamedTuple):
  """The keys of configs/augment/base.py, which describes them."""

  engine: str
  kind: str
  views: int
  splits: tuple[str, ...]
  seed: int
  attempts: int
  fallback: str
  replace: bool
  limit: int
  least_ratio: float
  most_ratio: float
  most_alike: float
  least_similarity: float
  similarity_encoder: str
  language: str
  keep_questions: bool
  label_check: str
  shard: int
  workers: int


def parse_config(config: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
  """Splits a config into the shared settings and the keywords of its engine.

  Raises:
    UserError: a missing key or a value out of range.
  """
  missing = [key for key in Settings._fields if key not in config]
  if missing:
    raise UserError(
      f"the config has no key {missing[0]}; start from base.get_config(ENGINE) of "
      "configs/augment/base.py"
    )
  shared = {key: config[key] for key in Settings._fields}
  settings = Settings(**(shared | {"splits": tuple(shared["splits"])}))
  _validate(settings)
  return settings, {k: v for k, v in config.items() if k not in shared}


def worker_count(settings: Settings, local: bool) -> int:
  """Returns how many processes make views.

  An engine that waits for a server has its own concurrency, and JAX, which two of the
  filters use, occupies all cores by itself: both get one process.

  Args:
    local: the engine computes on this machine.
  """
  if not local or settings.least_similarity > 0 or settings.label_check:
    return 1
  return settings.workers or len(os.sched_getaffinity(0))


def _validate(settings: Settings) -> None:
  for key, minimum in MINIMUM.items():
    if not getattr(settings, key) >= minimum:
      raise UserError(
        f"--config.{key}={getattr(settings, key)}: it must be at least {minimum}"
      )
  for key in ("most_alike", "least_similarity"):
    if getattr(settings, key) > 1:
      raise UserError(f"--config.{key}={getattr(settings, key)}: it must be at most 1")
  if 0 < settings.most_ratio <= settings.least_ratio:
    raise UserError(
      f"--config.most_ratio={settings.most_ratio}: it must be above least_ratio "
      f"({settings.least_ratio}), or 0 for no limit"
    )
  if settings.fallback not in FALLBACKS:
    raise UserError(
      f"--config.fallback={settings.fallback!r}: choose from {', '.join(FALLBACKS)}"
    )
  if settings.kind in MADE or not re.fullmatch(r"\w[\w.+-]{0,63}", settings.kind):
    raise UserError(
      f"--config.kind={settings.kind!r}: use at most 64 letters, digits and hyphens, "
      f"and not {' or '.join(MADE)}, which training generates itself"
    )
  names = ", ".join(split_files.NAMES)
  for split in settings.splits:
    if split not in split_files.NAMES:
      raise UserError(f"--config.splits: no split {split!r}; choose from {names}")
  if not settings.splits:
    raise UserError(f"--config.splits is empty; name at least one of {names}")
