"""Rows of a data set on the Hugging Face Hub, or one line that says why not.

`datasets` is imported inside the functions: it takes a second, and only `prepare`
needs it.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ssljax.assets.encoders import within
from ssljax.data.records import files
from ssljax.errors import UserError

SECONDS = 5.0  # to wait for the Hub's first answer


class Part(NamedTuple):
  """One split: its rows and the class names that its columns carry."""

  rows: Iterator[dict]
  classes: Mapping[str, tuple[str, ...]]  # by column
  columns: tuple[str, ...]


def load(name: str, config: str = "") -> dict[str, Part]:
  """Downloads a data set (or takes it from the Hub's own cache folder).

  Args:
    name: `owner/name`.
    config: its configuration ("subset"), where there are several.

  Raises:
    UserError: the Hub does not answer within seconds, the data set does not exist, its
      terms are not accepted, or it cannot be loaded without running its own code.
  """
  _ask(name)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
      found = datasets.load_dataset(name, config or None)
    except Exception as error:  # builders raise what their parsers raise
      raise _reason(name, error) from error
  return {
    part: Part(
      _rows(rows),
      {
        column: tuple(feature.names)
        for column, feature in rows.features.items()
        if isinstance(feature, datasets.ClassLabel)
      },
      tuple(rows.column_names),
    )
    for part, rows in found.items()
  }


def _ask(name: str) -> None:
  """Asks for the data set first, without the half minute of retries of a download."""
  from huggingface_hub import HfApi

  try:
    info = within(SECONDS, lambda: HfApi().dataset_info(name, timeout=SECONDS))
    if info.gated:
      within(SECONDS, lambda: HfApi().auth_check(name, repo_type="dataset"))
  except Exception as error:  # the HTTP library beneath differs by version
    raise _reason(name, error) from error


def _rows(rows) -> Iterator[dict]:
  for table in rows.with_format("arrow").iter(files.BATCH):
    yield from table.to_pylist()


def _reason(name: str, error: Exception) -> UserError:
  from huggingface_hub import errors

  chain = [error]  # `datasets` wraps what `huggingface_hub` raised
  while chain[-1].__cause__ or chain[-1].__context__:
    chain.append(chain[-1].__cause__ or chain[-1].__context__)
  page = f"https://huggingface.co/datasets/{name}"
  codes = {getattr(getattr(e, "response", None), "status_code", None) for e in chain}
  gated = any(isinstance(e, errors.GatedRepoError) for e in chain)
  if not gated and any(isinstance(e, errors.RepositoryNotFoundError) for e in chain):
    return UserError(
      f"{name}: the Hub has no such data set, or it is private; check the name "
      f"at {page}"
    )
  if gated or "gated" in str(error).lower() or codes & {401, 403}:
    return UserError(
      f"{name}: the data set is gated; accept its terms at {page} with your account, "
      "then set HF_TOKEN (or run `hf auth login`) and run this again"
    )
  kinds = " ".join(k.__name__ for e in chain for k in type(e).__mro__)
  line = (str(error).splitlines() or [""])[0]
  said = f"{type(error).__name__}: {files.short(line, 120)}"
  if any(word in kinds for word in ("Connect", "Timeout", "TransportError", "Offline")):
    return UserError(
      f"{name}: cannot reach the Hugging Face Hub ({said}); check the network, or "
      "download the files by other means and give them with --source=FILES"
    )
  return UserError(
    f"{name}: cannot be loaded from the Hub ({said}); a --config_name may be missing, "
    "or the data set needs a loading script, which is not run: give its files with "
    "--source=FILES"
  )
