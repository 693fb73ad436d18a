"""Reads datasets of the Hugging Face Hub.

`datasets` is imported inside a function: the import takes a second, and most commands
don't need it.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.runtime import threads

TIMEOUT = 5.0  # seconds to wait for the Hub's first answer


class HubSplit(NamedTuple):
  rows: Iterator[dict]
  classes: Mapping[str, tuple[str, ...]]  # label column -> class names by id
  columns: tuple[str, ...]


def load_hub_dataset(name: str, config: str = "") -> dict[str, HubSplit]:
  """Downloads a dataset, or reads it from the Hub's cache folder.

  Args:
    name: `owner/name`.
    config: the configuration ("subset") to load, if the dataset has several.

  Raises:
    UserError: the Hub doesn't answer in time; the dataset doesn't exist, is gated, or
      can be loaded only by its own script.
  """
  try:
    _check_access(name)
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      import datasets

      datasets.disable_progress_bars()
      datasets.logging.set_verbosity_error()
      logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
      splits = datasets.load_dataset(name, config or None)
  except Exception as error:  # libraries raise whatever their parts raise
    raise _explain(name, error) from error
  return {
    split: HubSplit(
      _rows(f"{name} {split}", rows.with_format("arrow").iter(files.BATCH)),
      {k: tuple(f.names) for k, f in rows.features.items() if hasattr(f, "names")},
      tuple(rows.column_names),
    )
    for split, rows in splits.items()
  }


def _rows(name: str, tables: Iterable[pa.Table]) -> Iterator[dict]:
  first = 1
  for table in tables:
    yield from files.to_rows(Path(name), table, first)
    first += len(table)


def _check_access(name: str) -> None:
  """Raises quickly if there is no access; a download would retry for half a minute."""
  from huggingface_hub import HfApi

  info = threads.start(HfApi().dataset_info, name, timeout=TIMEOUT).result(TIMEOUT)
  if info.gated:
    threads.start(HfApi().auth_check, name, repo_type="dataset").result(TIMEOUT)


def _explain(name: str, error: Exception) -> UserError:
  """The UserError for an exception of `datasets` or `huggingface_hub`."""
  chain = [error]  # `datasets` wraps the errors of `huggingface_hub`
  while cause := chain[-1].__cause__ or chain[-1].__context__:
    chain.append(cause)
  types = " ".join(t.__name__ for e in chain for t in type(e).__mro__)
  codes = {getattr(getattr(e, "response", None), "status_code", None) for e in chain}
  page = f"https://huggingface.co/datasets/{name}"
  is_gated = "GatedRepoError" in types
  if "RepositoryNotFoundError" in types and not is_gated:
    return UserError(
      f"{name}: the Hub has no such dataset, or it is private; check the name at {page}"
    )
  if is_gated or "gated" in str(error).lower() or codes & {401, 403}:
    return UserError(
      f"{name}: the dataset is gated; accept its terms at {page} with your account, "
      "set HF_TOKEN (or run `hf auth login`), and try again"
    )
  line = (str(error).splitlines() or [""])[0]
  return UserError(
    f"{name}: cannot be loaded from the Hugging Face Hub ({type(error).__name__}: "
    f"{files.shorten(line, 120)}); check the network; if the dataset has "
    "several configurations, set --config_name; if it needs a loading script, which "
    "ssljax doesn't run, download its files and give them with --source=FILES"
  )
