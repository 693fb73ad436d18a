"""Makes the tokens of a dataset, which training reads: once for each encoder.

  python -m ssljax.data.tokenize --data=FOLDER --encoder=microsoft/deberta-v3-base

Training does the same where tokens are missing. For a large dataset, this command lets
you do it beforehand, on a machine without accelerators. Several processes write the
tokens into the cache (SSLJAX_CACHE). After a kill, the same command continues.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from ssljax import cli, options
from ssljax.config import KEYS
from ssljax.data import datasets
from ssljax.data.pool.splits import open_splits
from ssljax.data.sources.build import resolve_data
from ssljax.errors import UserError

NAMES = (  # of the flags other than --data
  *("encoder", "max_length", "tokenization", "tokenizer_backend", "seed", "verify"),
)


def run(config: Mapping[str, Any]) -> None:
  """Makes the tokens that are missing, and says how many there are.

  Args:
    config: the keys that are flags of this command, with the values of a run.

  Raises:
    UserError: bad data, or an encoder that can't be used.
  """
  try:
    options.check(KEYS, config)
  except ValueError as error:
    raise UserError(f"--{error}") from None
  splits = open_splits({**config, "data": resolve_data(config["data"])}, _check_encoder)
  sizes = {"train": (len(splits.train), splits.store.index.length[splits.train])}
  for name in ("validation", "test"):
    rows = getattr(splits, name)
    backend = config["tokenizer_backend"]
    tokens = datasets.eval_set(rows, splits.encoder, config, backend).tokens
    sizes[name] = (len(rows), tokens.lengths)
  for note in splits.notes:
    print(note)
  for name, (rows, lengths) in sizes.items():
    mean, longest = np.mean(lengths), np.max(lengths)
    print(f"{name}: {rows} texts, {mean:.1f} tokens on average, {longest} at most")
  kinds = splits.store.index.kind_names
  print(f"stored views: {', '.join(kinds) or 'none'}")
  print(f"tokens of train: {splits.store.folder}")


def _check_encoder(folder: Path) -> None:
  if not (folder / "config.json").is_file():
    raise UserError(f"--encoder={folder}: has no config.json; give an encoder's folder")


def define_flags() -> None:
  """Defines a flag for each key of a training config that tokens depend on."""
  flags.DEFINE_string("data", None, KEYS["data"].meaning, required=True)
  define = {int: flags.DEFINE_integer, bool: flags.DEFINE_bool}
  for name in NAMES:
    option = KEYS[name]
    if option.choices:
      flags.DEFINE_enum(name, option.default, option.choices, option.meaning)
    else:
      kind = define.get(option.type, flags.DEFINE_string)
      kind(name, option.default, option.meaning)


def main() -> None:
  run({name: flags.FLAGS[name].value for name in ("data", *NAMES)})


if __name__ == "__main__":
  define_flags()
  cli.run(main)
