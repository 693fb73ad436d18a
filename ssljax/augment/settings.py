"""The keys of configs/augment/base.py, typed and checked; the rest is the engine's."""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ssljax.data.records import split_files
from ssljax.data.records.schema import MADE
from ssljax.errors import UserError

FALLBACKS = ("self", "words", "none")


class Settings(NamedTuple):
  """See configs/augment/base.py."""

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


def divide(config: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
  """The settings of a config, and the keywords of its engine.

  Raises:
    UserError: a value out of range; names the key.
  """
  missing = [key for key in Settings._fields if key not in config]
  if missing:
    raise UserError(
      f"the config has no {missing[0]}; begin it with base.get_config(ENGINE) of "
      "configs/augment/base.py"
    )
  own = {key: config[key] for key in Settings._fields}
  settings = Settings(**(own | {"splits": tuple(own["splits"])}))
  _check(settings)
  return settings, {k: v for k, v in config.items() if k not in own}


def processes(settings: Settings, local: bool) -> int:
  """How many processes make views.

  An engine that waits for a server has its own concurrency, and JAX, which two of the
  filters use, takes all cores by itself: both get one process.
  """
  if not local or settings.least_similarity > 0 or settings.label_check:
    return 1
  return settings.workers or len(os.sched_getaffinity(0))


def _check(settings: Settings) -> None:
  least = {"views": 1, "attempts": 1, "limit": 0, "shard": 1, "workers": 0, "seed": 0}
  least |= {"least_ratio": 0, "most_ratio": 0, "most_alike": 0, "least_similarity": 0}
  for key, bound in least.items():
    if not getattr(settings, key) >= bound:
      raise UserError(
        f"--config.{key}={getattr(settings, key)}: it must be at least {bound}"
      )
  for key in ("most_alike", "least_similarity"):
    if getattr(settings, key) > 1:
      raise UserError(f"--config.{key}={getattr(settings, key)}: it must be at most 1")
  if 0 < settings.most_ratio <= settings.least_ratio:
    raise UserError(
      f"--config.most_ratio={settings.most_ratio}: it must be above least_ratio "
      f"({settings.least_ratio}), or 0 for no bound"
    )
  if settings.fallback not in FALLBACKS:
    raise UserError(
      f"--config.fallback={settings.fallback!r}: it is one of {', '.join(FALLBACKS)}"
    )
  if settings.kind in MADE or not re.fullmatch(r"\w[\w.+-]{0,63}", settings.kind):
    raise UserError(
      f"--config.kind={settings.kind!r}: name the views with letters, digits, "
      f"hyphens, and not {' or '.join(MADE)}, which training makes by itself"
    )
  known = list(split_files.NAMES)
  for split in settings.splits:
    if split not in known:
      raise UserError(f"--config.splits: no split {split!r}; it is {', '.join(known)}")
  if not settings.splits:
    raise UserError(f"--config.splits: name one at least of {', '.join(known)}")
