"""Tokenises each text once and caches the tokens on disk as flat integer arrays.

The cache key covers the texts, the tokenizer and the settings, so a second run, or a
resumed one, maps the arrays into memory without loading a tokenizer. Nothing is padded.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.assets import fetch
from ssljax.assets.encoders import TOKENIZER, VOCABULARY
from ssljax.data.batches import tftext
from ssljax.errors import UserError
from ssljax.runtime.atomic import atomic_folder

FORMAT = 2  # of the cached arrays; increase it when their meaning changes
CHUNK = 4096  # texts per call of the tokenizer


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
    """(ids of text i, number of them in the first segment)."""
    return self.ids[self.offset[i] : self.offset[i + 1]], int(self.prompt[i])


def load_tokenizer(folder: Path):
  """Loads the fast tokenizer in `folder`, with padding and truncation switched off.

  Raises:
    UserError: no tokenizer, one that cannot be loaded, or one without a fast version or
      without [CLS] and [SEP].
  """
  from transformers import AutoTokenizer

  advice = (
    "put the encoder's tokenizer files (tokenizer.json, vocab.txt or spm.model) next "
    "to config.json"
  )
  # Without these files, transformers silently creates a tokenizer that only knows
  # special tokens.
  if not any(any(Path(folder).glob(pattern)) for pattern in VOCABULARY):
    raise UserError(f"{folder}: there is no tokenizer here; {advice}")
  try:
    tokenizer = AutoTokenizer.from_pretrained(str(folder), use_fast=True)
  except Exception as error:  # transformers raises whatever its parsers raise
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    raise UserError(
      f"{folder}: the tokenizer cannot be loaded ({reason}); {advice}"
    ) from error
  backend = getattr(tokenizer, "backend_tokenizer", None)
  if (
    backend is None or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None
  ):
    raise UserError(
      f"{folder}: the tokenizer has no fast version, or no [CLS] or [SEP] token; use "
      "an encoder with a BERT or DeBERTa tokenizer"
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
  """Encodes texts as [CLS] text [SEP], or [CLS] text [SEP] response [SEP].

  A text that is too long loses its beginning. In a pair, only the prompt is cut, from
  the left; if the response leaves no room for it, the longer of the two is cut until
  both fit, also from the left, as in the code of arXiv 2512.21107.

  Args:
    texts, responses: n strings; a response may be None.
    max_length: in tokens, including special ones; at least 4.
    encode_batch: texts to ids without special tokens; default: the tokenizer itself.
  """
  if encode_batch is None:
    encode_batch = lambda batch: [
      encoding.ids
      for encoding in tokenizer.backend_tokenizer.encode_batch(
        batch, add_special_tokens=False
      )
    ]
  start, separator = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
  ids, prompt, truncated = [], [], []
  for begin in range(0, len(texts), CHUNK):
    chunk_responses = responses[begin : begin + CHUNK]
    text_ids = encode_batch(list(texts[begin : begin + CHUNK]))
    response_ids = iter(encode_batch([r for r in chunk_responses if r is not None]))
    for a, response in zip(text_ids, chunk_responses, strict=True):
      b = next(response_ids) if response is not None else None
      space = max_length - (2 if b is None else 3)
      total = len(a) + len(b or ())
      if b is not None and total > space and len(b) >= space:
        # The longer one is cut first; if they are equally long, the response.
        kept = max(space - len(a), space // 2)
        b = b[len(b) - kept :]
      a = a[max(0, len(a) - (space - len(b or ()))) :]
      first_segment = start + a + separator
      second_segment = b + separator if b is not None else []
      ids.append(np.array(first_segment + second_segment, np.int32))
      prompt.append(len(first_segment))
      truncated.append(total > space)
  offset = np.zeros(len(ids) + 1, np.int64)
  np.cumsum([len(text) for text in ids], out=offset[1:])
  return Tokens(
    np.concatenate(ids) if ids else np.zeros(0, np.int32),
    offset,
    np.array(prompt, np.int32),
    np.array(truncated, bool),
  )


def encode_cached(
  encoder: Path,
  texts: Sequence[str],
  responses: Sequence[str | None],
  max_length: int,
  backend: str = "hf",
) -> Tokens:
  """`encode` with the tokenizer in folder `encoder`; results are cached."""
  make = lambda: (texts, responses, np.arange(len(texts) + 1))
  return encode_views_cached(encoder, texts, responses, max_length, make, backend)[0]


def encode_views_cached(
  encoder: Path,
  texts: Sequence[str],
  responses: Sequence[str | None],
  max_length: int,
  make: Callable[[], tuple[Sequence[str], Sequence[str | None], np.ndarray]],
  backend: str = "hf",
  modify: Callable[[Tokens, Any], Tokens] = lambda tokens, tokenizer: tokens,
) -> tuple[Tokens, np.ndarray]:
  """Encodes views computed from the texts; results are cached.

  Args:
    texts, responses: the cache key; they must determine the result of `make`.
    make: () -> (texts, responses, begin i64); not called if the result is cached.
    backend: "hf" or "tftext". The ids are the same, so they share the cache.
    modify: (tokens, tokenizer) -> tokens; `texts` must determine its result as well.

  Returns:
    The tokens and `begin`.
  """
  folder = fetch.folder() / "tokens" / _cache_key(encoder, texts, responses, max_length)
  if not (folder / "done").exists():
    tokenizer, encode_batch = load_tokenizer(encoder), None
    if backend == "tftext":
      encode_batch = tftext.make_encoder(tokenizer.backend_tokenizer, encoder)
    *views, begin = make()
    tokens = modify(encode(tokenizer, *views, max_length, encode_batch), tokenizer)
    _check_ids(tokens, encoder)
    _store(folder, {**tokens._asdict(), "begin": begin})
  *tokens, begin = (
    np.load(folder / f"{name}.npy", mmap_mode="r")
    for name in (*Tokens._fields, "begin")
  )
  return Tokens(*tokens), begin


def _check_ids(tokens: Tokens, encoder: Path) -> None:
  """Raises UserError for an id without an embedding, which would become NaN."""
  rows = json.loads((encoder / "config.json").read_text()).get("vocab_size")
  highest = int(tokens.ids.max(initial=0))
  if rows is not None and highest >= rows:
    raise UserError(
      f"{encoder}: the tokenizer produces id {highest}, but the embedding has only "
      f"{rows} rows (vocab_size in config.json); use the encoder's own tokenizer files"
    )


def _cache_key(
  encoder: Path,
  texts: Sequence[str],
  responses: Sequence[str | None],
  max_length: int,
) -> str:
  digest = hashlib.sha256()
  digest.update(json.dumps([FORMAT, max_length]).encode())
  # config.json may be the only file that names the tokenizer's class.
  patterns = ("config.json", *TOKENIZER)
  for file in sorted({f for pattern in patterns for f in encoder.glob(pattern)}):
    content = file.read_bytes()
    digest.update(json.dumps([file.name, len(content)]).encode() + content)
  for pair in zip(texts, responses, strict=True):
    # Lengths precede the contents, so that no two lists of texts have the same bytes.
    for text in pair:
      data = b"" if text is None else text.encode()
      digest.update(b"%d:" % (-1 if text is None else len(data)) + data)
  return digest.hexdigest()[:32]


def _store(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
  try:
    with atomic_folder(folder) as temporary:
      for name, array in arrays.items():
        np.save(temporary / f"{name}.npy", array)
      (temporary / "done").touch()
  except OSError as error:
    if not (folder / "done").exists():  # otherwise another process was faster
      raise UserError(
        f"{folder}: cannot write the token cache ({error}); free some space, or set "
        "SSLJAX_CACHE to a writable folder"
      ) from error
