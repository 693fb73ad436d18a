"""Finds a pretrained encoder by its name, in the asset manifest or on the hub."""

import fnmatch
import hashlib
import json
import logging
import re
import warnings
from functools import partial
from pathlib import Path

from ssljax.assets import fetch
from ssljax.errors import UserError
from ssljax.runtime import threads

TIMEOUT = 5.0  # seconds to wait for the hub's answer

# A tokenizer has at least one of these files.
VOCABULARY = (
  *("tokenizer.json", "vocab.txt", "vocab.json"),
  *("*.spm", "spm.model", "spiece.model", "sentencepiece*.model"),
)
TOKENIZER = (  # all files of a tokenizer
  *VOCABULARY,
  *("merges.txt", "added_tokens.json"),
  *("tokenizer_config.json", "special_tokens_map.json"),
)
SAFETENSORS = ("model*.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")


def resolve(folder_or_name: str | Path, pickled: bool = False) -> Path:
  """Returns the folder that has an encoder's config, tokenizer files and weights.

  An existing folder is returned as it is. Otherwise the function looks the name up in
  the asset manifest, then in the hub's cache on this machine, and only then on the hub.

    resolve("sentence-transformers/all-MiniLM-L6-v2")

  `pickled` asks for pytorch_model.bin instead of safetensors, for `convert`.

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
  weights, index = PICKLED if pickled else SAFETENSORS
  patterns = ["config.json", *TOKENIZER, weights, index]
  download = partial(huggingface_hub.snapshot_download, name, allow_patterns=patterns)
  try:
    folder = Path(download(local_files_only=True))
    if _is_complete(folder, weights, index):
      _check_hashes(folder, patterns)
      return folder
  except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError, ValueError):
    pass  # not in the hub's cache

  fix = (
    "give the folder of an encoder, or a name from the asset manifest, such as"
    " sentence-transformers/all-MiniLM-L6-v2, which does not need the hub"
  )
  api = huggingface_hub.HfApi()
  try:
    # The timeout of the client covers neither DNS look-ups nor retries.
    info = threads.start(api.model_info, name, timeout=TIMEOUT).result(TIMEOUT)
  except errors.GatedRepoError:
    raise UserError(
      f"{name}: is gated on the hub; request access there, then log in with"
      " `hf auth login`"
    ) from None
  except Exception as error:
    # httpx, sockets and proxies raise many types, all of which mean: no answer.
    problem = f"the hub did not answer within {TIMEOUT:.0f} s"
    if isinstance(error, errors.RepositoryNotFoundError):
      problem = "no such name on the hub"
    raise UserError(f"{name}: no such folder, and {problem}; {fix}") from None
  names = [sibling.rfilename for sibling in info.siblings or ()]
  if not pickled and not fnmatch.filter(names, weights):
    if fnmatch.filter(names, PICKLED[0]):
      raise UserError(
        f"{name}: the hub has weights only as pytorch_model.bin, a pickle, which can"
        f" run code; run python -m ssljax.models.convert {name} FOLDER, and use FOLDER"
      )
    raise UserError(f"{name}: this repository on the hub has no weights; {fix}")
  try:
    folder = Path(download(etag_timeout=TIMEOUT, revision=info.sha))
  except Exception as error:
    raise UserError(
      f"{name}: the download from the hub failed ({error}); run again to resume it"
    ) from None
  _check_hashes(folder, patterns)
  return folder


def _check_hashes(folder: Path, patterns: list[str]) -> None:
  """Raises UserError if a file of the hub's cache has changed on disk.

  The files are links to files whose names are hashes: SHA-256, or that of a Git blob.
  """
  for file in sorted({f for pattern in patterns for f in folder.glob(pattern)}):
    if not file.is_symlink():  # copied, on systems without links
      continue
    stored = file.resolve()
    kind = {40: "sha1", 64: "sha256"}.get(len(stored.name))
    if not kind or not re.fullmatch("[0-9a-f]+", stored.name):
      continue
    digest = hashlib.new(kind, usedforsecurity=False)
    if kind == "sha1":
      digest.update(b"blob %d\0" % stored.stat().st_size)
    with stored.open("rb") as content:
      while block := content.read(1 << 20):
        digest.update(block)
    if digest.hexdigest() != stored.name:
      raise UserError(
        f"{file}: has changed since it was downloaded; remove {stored}, and run again"
      )


def _is_complete(folder: Path, weights: str, index: str) -> bool:
  """Whether the cache has all files; another program may have fetched only some."""
  names = {file.name for file in folder.iterdir()}
  needed = {"config.json"}
  if index in names:
    needed |= set(json.loads((folder / index).read_text())["weight_map"].values())
  return needed <= names and all(
    any(fnmatch.filter(names, pattern) for pattern in patterns)
    for patterns in (VOCABULARY, [weights])
  )
