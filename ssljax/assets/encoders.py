"""Finds the folder of a pretrained encoder by name: asset manifest, then the hub."""

import fnmatch
import json
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ssljax.assets import fetch
from ssljax.errors import UserError

TIMEOUT = 5.0  # seconds to wait for the hub's answer

_CONFIG = ("config.json",)
# A tokenizer has at least one of these files.
VOCABULARY = (
  "tokenizer.json",
  "vocab.txt",
  "vocab.json",
  "spm.model",
  "*.spm",
  "sentencepiece*.model",
  "spiece.model",
)
TOKENIZER = (
  *VOCABULARY,
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "merges.txt",
)
_SAFETENSORS = ("model*.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")


def resolve(folder_or_name: str | Path, pickled: bool = False) -> Path:
  """Returns the folder of an encoder: config, tokenizer files and weights.

  An existing folder is returned as it is. Otherwise the name is looked up in the asset
  manifest, then in the hub's cache on this machine, and only then on the hub.

    resolve("sentence-transformers/all-MiniLM-L6-v2")

  Args:
    folder_or_name: a folder, or the name of an encoder.
    pickled: look for pytorch_model.bin instead of safetensors, for `convert`.

  Raises:
    UserError: no such folder or name, no network, or a repository without safetensors.
  """
  name = str(folder_or_name)
  folder = Path(name).expanduser()
  if name and folder.is_dir():
    return folder
  if name and folder.exists():
    raise UserError(f"{name}: is a file; give the folder that contains config.json")
  if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name):
    raise UserError(f"{name!r}: no such folder; give the folder or name of an encoder")

  return fetch.model_folder(name) or _from_hub(name, pickled)


def _from_hub(name: str, pickled: bool) -> Path:
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import huggingface_hub
    from huggingface_hub import errors
    from huggingface_hub.utils import disable_progress_bars

  logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
  disable_progress_bars()
  patterns = [*_CONFIG, *TOKENIZER, *(_PICKLED if pickled else _SAFETENSORS)]
  try:
    folder = huggingface_hub.snapshot_download(
      name, allow_patterns=patterns, local_files_only=True
    )
    if _complete(Path(folder), pickled):
      return Path(folder)
  except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError, ValueError):
    pass  # not in the hub's cache

  fix = (
    "give the folder of an encoder, or a name from the asset manifest, such as"
    " sentence-transformers/all-MiniLM-L6-v2, which does not need the hub"
  )
  try:
    info = within(
      TIMEOUT, lambda: huggingface_hub.HfApi().model_info(name, timeout=TIMEOUT)
    )
  except errors.GatedRepoError:
    raise UserError(
      f"{name}: is gated on the hub; request access there, then log in with"
      " `hf auth login`"
    ) from None
  except errors.RepositoryNotFoundError:
    raise UserError(
      f"{name}: no such folder, and no such name on the hub; {fix}"
    ) from None
  except Exception:
    # httpx, sockets and proxies raise many types, all of which mean: no answer.
    raise UserError(
      f"{name}: no such folder, and the hub did not answer within"
      f" {TIMEOUT:.0f} s; {fix}"
    ) from None
  files = [sibling.rfilename for sibling in info.siblings or ()]
  if not pickled and not _any(files, r"model.*\.safetensors"):
    if _any(files, r"pytorch_model.*\.bin"):
      raise UserError(
        f"{name}: the hub has weights only as pytorch_model.bin, a pickle, which can"
        f" run code; run python -m ssljax.models.convert {name} FOLDER, and use FOLDER"
      )
    raise UserError(f"{name}: this repository on the hub has no weights; {fix}")
  try:
    return Path(
      huggingface_hub.snapshot_download(
        name, allow_patterns=patterns, etag_timeout=TIMEOUT, revision=info.sha
      )
    )
  except Exception as error:
    raise UserError(
      f"{name}: the download from the hub failed ({error}); run again to resume it"
    ) from None


def _complete(folder: Path, pickled: bool) -> bool:
  # The cache may hold a part only, such as a tokenizer that another program needed.
  names = [file.name for file in folder.iterdir()]
  weights = r"pytorch_model.*\.bin" if pickled else r"model.*\.safetensors"
  has_all_shards = True
  if "model.safetensors.index.json" in names and not pickled:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    has_all_shards = set(index["weight_map"].values()) <= set(names)
  has_tokenizer = any(fnmatch.filter(names, pattern) for pattern in VOCABULARY)
  return (
    has_all_shards and has_tokenizer and "config.json" in names and _any(names, weights)
  )


def _any(names: Iterable[str], pattern: str) -> bool:
  return any(re.fullmatch(pattern, name) for name in names)


def within(seconds: float, call: Callable[[], Any]) -> Any:
  """Returns or raises what `call()` does, or raises TimeoutError after `seconds`.

  Uses a thread, since the hub client's own timeout covers neither DNS look-ups nor
  retries. A thread that times out keeps running until the process ends.
  """
  result: list[tuple[bool, Any]] = []

  def run():
    try:
      result.append((True, call()))
    except BaseException as error:
      result.append((False, error))

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  thread.join(seconds)
  if not result:
    raise TimeoutError
  succeeded, value = result[0]
  if not succeeded:
    raise value
  return value
