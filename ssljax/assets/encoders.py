"""From the name of an encoder to a folder on this machine."""

import fnmatch
import json
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ssljax.errors import UserError

LIMIT = 5.0  # seconds within which the hub must have said what it holds

_CONFIG = ("config.json",)
# Files that hold a vocabulary; a tokenizer has one of them at least.
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
  """The folder of an encoder: config, tokenizer files and weights.

  An existing folder is taken as it is. Else the asset manifest is asked, then the
  hub's cache on this machine, and only then the hub itself.

  Args:
    folder_or_name: for example `sentence-transformers/all-MiniLM-L6-v2`.
    pickled: take pytorch_model.bin where there are no safetensors; for `convert`.

  Raises:
    UserError: no such folder or name, no network, or a repository without safetensors.
  """
  name = str(folder_or_name)
  folder = Path(name).expanduser()
  if name and folder.is_dir():
    return folder
  if name and folder.exists():
    raise UserError(f"{name}: is a file; give the folder that holds config.json")
  if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name):
    raise UserError(f"{name!r}: no such folder; give the folder or name of an encoder")

  from ssljax.assets import fetch  # here: a folder on disk needs neither of the two

  served = fetch.model_folder(name)
  if served is not None:
    return Path(served)
  return _from_hub(name, pickled)


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
    pass  # not in the cache of this machine

  way_out = (
    "give the folder of an encoder, or a name of the asset manifest such as"
    " sentence-transformers/all-MiniLM-L6-v2, which needs no hub"
  )
  try:
    info = within(
      LIMIT, lambda: huggingface_hub.HfApi().model_info(name, timeout=LIMIT)
    )
  except errors.GatedRepoError:
    raise UserError(
      f"{name}: gated on the hub; ask there for access, then log in with"
      " `hf auth login`"
    ) from None
  except errors.RepositoryNotFoundError:
    raise UserError(
      f"{name}: no such folder, and no such name on the hub; {way_out}"
    ) from None
  except Exception:
    # Whatever the reason, there is no answer: httpx, sockets and proxies each raise
    # their own types.
    raise UserError(
      f"{name}: no such folder, and the hub did not answer within"
      f" {LIMIT:.0f} s; {way_out}"
    ) from None
  files = [sibling.rfilename for sibling in info.siblings or ()]
  if not pickled and not _any(files, r"model.*\.safetensors"):
    if _any(files, r"pytorch_model.*\.bin"):
      raise UserError(
        f"{name}: the hub has its weights only as pytorch_model.bin, a pickle, which is"
        f" not loaded here; run: python -m ssljax.models.convert {name} FOLDER, and"
        " give FOLDER"
      )
    raise UserError(f"{name}: the hub has no weights of this name; {way_out}")
  try:
    return Path(
      huggingface_hub.snapshot_download(
        name, allow_patterns=patterns, etag_timeout=LIMIT, revision=info.sha
      )
    )
  except Exception as error:
    raise UserError(
      f"{name}: the download from the hub failed ({error}); run again to continue it"
    ) from None


def _complete(folder: Path, pickled: bool) -> bool:
  # A snapshot may hold only what another program asked for, the tokenizer say.
  names = [file.name for file in folder.iterdir()]
  weights = r"pytorch_model.*\.bin" if pickled else r"model.*\.safetensors"
  whole = True
  if "model.safetensors.index.json" in names and not pickled:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    whole = set(index["weight_map"].values()) <= set(names)
  words = any(fnmatch.filter(names, pattern) for pattern in VOCABULARY)
  return whole and words and "config.json" in names and _any(names, weights)


def _any(names: Iterable[str], pattern: str) -> bool:
  return any(re.fullmatch(pattern, name) for name in names)


def within(seconds: float, call: Callable[[], Any]) -> Any:
  """What `call()` returns or raises, or TimeoutError after `seconds`.

  A thread, because neither the look-up of a host name nor the client's retries heed
  the client's own timeout; it is left behind and ends with the process.
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
  good, value = result[0]
  if not good:
    raise value
  return value
