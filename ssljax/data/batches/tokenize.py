"""Tokenises each text once, into flat integer arrays on disk.

The cache is keyed by content, tokenizer and settings, so that a second run, and a
resumed one, map the arrays into memory and touch no tokenizer. Nothing is padded.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.assets import fetch
from ssljax.assets.encoders import TOKENIZER, VOCABULARY
from ssljax.data.batches import tftext
from ssljax.errors import UserError

FORMAT = 2  # of the cached arrays; raise it when their meaning changes
CHUNK = 4096  # texts handed to the tokenizer at once


class Tokens(NamedTuple):
  """Ragged texts: text i is ids[offset[i]:offset[i + 1]], special tokens included."""

  ids: np.ndarray  # i32 [all tokens]
  offset: np.ndarray  # i64 [n + 1]
  prompt: np.ndarray  # i32 [n], tokens of the first segment ([CLS] ... [SEP])
  truncated: np.ndarray  # bool [n], whether tokens were cut off

  @property
  def lengths(self) -> np.ndarray:
    return np.diff(self.offset)

  def text(self, i: int) -> tuple[np.ndarray, int]:
    return self.ids[self.offset[i] : self.offset[i + 1]], int(self.prompt[i])


def load_tokenizer(folder: Path):
  """The fast tokenizer in `folder`, without the padding that its file may ask for."""
  from transformers import AutoTokenizer

  way_out = (
    "put the encoder's tokenizer files (tokenizer.json, vocab.txt or spm.model) beside "
    "config.json"
  )
  # Without one transformers makes a tokenizer of special tokens alone, and is silent.
  if not any(any(Path(folder).glob(pattern)) for pattern in VOCABULARY):
    raise UserError(f"{folder}: no tokenizer here; {way_out}")
  try:
    tokenizer = AutoTokenizer.from_pretrained(str(folder), use_fast=True)
  except Exception as error:  # transformers raises what its parsers raise
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    raise UserError(
      f"{folder}: no tokenizer could be loaded ({reason}); {way_out}"
    ) from error
  backend = getattr(tokenizer, "backend_tokenizer", None)
  if (
    backend is None or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None
  ):
    raise UserError(
      f"{folder}: the tokenizer needs a fast form and the tokens [CLS] and [SEP]"
    )
  backend.no_padding()
  backend.no_truncation()
  return tokenizer


def encode(
  tokenizer,
  texts: Sequence[str],
  responses: Sequence[str | None],
  max_length: int,
  encode_batch: Callable[[list[str]], list[list[int]]] | None = None,
) -> Tokens:
  """[CLS] text [SEP], or [CLS] text [SEP] response [SEP].

  Too long a text loses its beginning. Of a pair only the prompt is cut, from the left;
  where the response would leave it nothing, the longer of the two is cut until both
  fit, from the left again, as the authors of arXiv 2512.21107 do.

  Args:
    texts, responses: n strings; a response may be None.
    max_length: tokens, special ones included; at least 4.
    encode_batch: texts to ids without special tokens; default the tokenizer's own.
  """
  if encode_batch is None:
    encode_batch = lambda some: [
      text.ids
      for text in tokenizer.backend_tokenizer.encode_batch(
        some, add_special_tokens=False
      )
    ]
  start, separator = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
  parts, prompt, truncated = [], [], []
  for begin in range(0, len(texts), CHUNK):
    some = texts[begin : begin + CHUNK]
    replies = responses[begin : begin + CHUNK]
    firsts = encode_batch(list(some))
    seconds = iter(encode_batch([r for r in replies if r is not None]))
    for a, reply in zip(firsts, replies, strict=True):
      b = next(seconds) if reply is not None else None
      space = max_length - (2 if b is None else 3)
      whole = len(a) + len(b or ())
      if b is not None and whole > space and len(b) >= space:
        # Longest first; of two that are as long, the response.
        kept = max(space - len(a), space // 2)
        b = b[len(b) - kept :]
      a = a[max(0, len(a) - (space - len(b or ()))) :]
      head = start + a + separator
      parts.append(np.array(head + (b + separator if b is not None else []), np.int32))
      prompt.append(len(head))
      truncated.append(whole > space)
  offset = np.zeros(len(parts) + 1, np.int64)
  np.cumsum([len(part) for part in parts], out=offset[1:])
  return Tokens(
    np.concatenate(parts) if parts else np.zeros(0, np.int32),
    offset,
    np.array(prompt, np.int32),
    np.array(truncated, bool),
  )


def cached(
  encoder: Path,
  texts: Sequence[str],
  responses: Sequence[str | None],
  max_length: int,
  backend: str = "hf",
) -> Tokens:
  """`encode` with the tokenizer of folder `encoder`, from the cache if it is there."""
  make = lambda: (texts, responses, np.arange(len(texts) + 1))
  return cached_views(encoder, texts, responses, max_length, make, backend)[0]


def cached_views(
  encoder: Path,
  texts: Sequence[str],
  responses: Sequence[str | None],
  max_length: int,
  make: Callable[[], tuple[Sequence[str], Sequence[str | None], np.ndarray]],
  backend: str = "hf",
  change: Callable[[Tokens, Any], Tokens] = lambda tokens, tokenizer: tokens,
) -> tuple[Tokens, np.ndarray]:
  """`encode` of what is made of the texts, from the cache if it is there.

  Args:
    texts, responses: all that decides what `make` gives; what is cached hangs on them.
    make: () -> (texts, responses, begin i64), not called where the cache serves.
    backend: "hf" or "tftext". Ids are the same, hence the cache too.
    change: of the tokens, given the tokenizer; `texts` must decide what it does, too.

  Returns:
    The tokens and `begin`.
  """
  folder = fetch.folder() / "tokens" / _key(encoder, texts, responses, max_length)
  if not (folder / "done").exists():
    tokenizer, encode_batch = load_tokenizer(encoder), None
    if backend == "tftext":
      encode_batch = tftext.make(tokenizer.backend_tokenizer, encoder)
    *made, begin = make()
    tokens = change(encode(tokenizer, *made, max_length, encode_batch), tokenizer)
    _check_ids(tokens, encoder)
    _store(folder, {**tokens._asdict(), "begin": begin})
  *tokens, begin = (
    np.load(folder / f"{name}.npy", mmap_mode="r")
    for name in (*Tokens._fields, "begin")
  )
  return Tokens(*tokens), begin


def _check_ids(tokens: Tokens, encoder: Path) -> None:
  """Raises UserError for an id that the encoder has no embedding for: it reads NaN."""
  rows = json.loads((encoder / "config.json").read_text()).get("vocab_size")
  highest = int(tokens.ids.max(initial=0))
  if rows is not None and highest >= rows:
    raise UserError(
      f"{encoder}: its tokenizer makes the id {highest}, but its embedding has {rows} "
      "rows (vocab_size of config.json); take the tokenizer files that belong to it"
    )


def _key(encoder, texts, responses, max_length) -> str:
  digest = hashlib.sha256()
  digest.update(json.dumps([FORMAT, max_length]).encode())
  # config.json names the tokenizer's class where nothing else does.
  patterns = ("config.json", *TOKENIZER)
  for file in sorted({f for pattern in patterns for f in encoder.glob(pattern)}):
    content = file.read_bytes()
    digest.update(json.dumps([file.name, len(content)]).encode() + content)
  for text, response in zip(texts, responses, strict=True):
    # Lengths stand before contents, so that no two lists of texts read alike.
    for part in (text, response):
      data = b"" if part is None else part.encode()
      digest.update(b"%d:" % (-1 if part is None else len(data)) + data)
  return digest.hexdigest()[:32]


def _store(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
  temporary = None
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    for name, array in arrays.items():
      np.save(temporary / f"{name}.npy", array)
    (temporary / "done").touch()
    os.replace(temporary, folder)
  except OSError as error:
    if not (folder / "done").exists():  # else another process was quicker
      raise UserError(
        f"{folder}: tokens cannot be kept there ({error}); free space, or set "
        "SSLJAX_CACHE to a folder that can be written"
      ) from error
  finally:
    if temporary is not None:
      shutil.rmtree(temporary, ignore_errors=True)
