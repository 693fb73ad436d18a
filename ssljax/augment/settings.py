"""Defines and checks the config keys that all engines share."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from ssljax import options
from ssljax.data.records.schema import COMPUTED_VIEWS
from ssljax.data.records.split_files import SPLITS
from ssljax.errors import UserError
from ssljax.options import Amount, Count, Natural, Share


class Settings(NamedTuple):
  """The config keys that all engines share, with their defaults."""

  engine: Annotated[str, "name of a module in ssljax/augment/engines"] = ""
  kind: Annotated[str, "name of the views, for --config.strong"] = ""
  views: Annotated[Count, "views per text"] = 1
  splits: Annotated[tuple[str, ...], "splits whose texts get views"] = ("train",)
  seed: Annotated[Natural, "seed of all random draws"] = 0
  attempts: Annotated[Count, "attempts before a text gets the fallback"] = 3
  fallback: Annotated[
    Literal["self", "words", "none"], "view of a text whose candidates were all dropped"
  ] = "self"
  replace: Annotated[
    bool, "True replaces older views of this kind; False keeps them"
  ] = True
  limit: Annotated[Natural, "number of texts that get views, for a trial; 0: all"] = 0

  # Filters; 0 or an empty string turns a filter off. Lengths are in characters.
  least_ratio: Annotated[Amount, "least length of a view relative to its text"] = 0.3
  most_ratio: Annotated[Amount, "greatest length of a view relative to its text"] = 3.0
  most_alike: Annotated[
    Share, "views that share this much of the characters with their text are dropped"
  ] = 0.98
  least_similarity: Annotated[
    Share, "least cosine of the mean-pooled embeddings of a view and its text"
  ] = 0.0
  similarity_encoder: Annotated[str, "encoder for least_similarity"] = (
    "sentence-transformers/all-MiniLM-L6-v2"
  )
  language: Annotated[
    str, "language that views must have: a code such as en, or same (as the text)"
  ] = ""
  keep_questions: Annotated[bool, "a question must stay a question"] = False
  label_check: Annotated[
    str,
    "workdir of a run; its model must predict the same class for a view and its text",
  ] = ""

  # Run
  shard: Annotated[Count, "rows that are read, augmented and written together"] = 4096
  workers: Annotated[Natural, "processes of a local engine; 0: one per core"] = 0


KEYS = options.describe(Settings)
KIND = re.compile(r"\w[\w.+-]{0,63}")  # a kind becomes the name of a file


def parse_config(config: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
  """Splits a config into the shared settings and the keywords of its engine.

  Raises:
    UserError: a key is missing or a value is out of range.
  """
  missing = [key for key in KEYS if key not in config]
  if missing:
    raise UserError(
      f"the config lacks {', '.join(missing)}; to write a config, start from "
      "ssljax.configs.augment.base.get_config(ENGINE)"
    )
  settings = Settings(**{key: config[key] for key in KEYS})
  settings = settings._replace(splits=tuple(settings.splits))
  try:
    options.check(KEYS, settings._asdict())
  except ValueError as error:
    raise UserError(f"--config.{error}") from None
  if 0 < settings.most_ratio <= settings.least_ratio:
    raise UserError(
      f"--config.most_ratio={settings.most_ratio}: it must be above least_ratio "
      f"({settings.least_ratio}), or 0 for no limit"
    )
  if settings.kind in COMPUTED_VIEWS or not KIND.fullmatch(settings.kind):
    raise UserError(
      f"--config.kind={settings.kind!r}: use at most 64 letters, digits and hyphens, "
      f"and not {' or '.join(COMPUTED_VIEWS)}, which training generates itself"
    )
  if unknown := set(settings.splits).difference(SPLITS):
    names = ", ".join(SPLITS)
    raise UserError(f"--config.splits: no split {min(unknown)!r}; choose from {names}")
  return settings, {key: config[key] for key in config if key not in KEYS}
