"""Tokenises each text once and caches the tokens on disk as flat integer arrays.

The cache key covers the texts, the tokenizer and the settings. A second or resumed run
maps the arrays into memory without loading a tokenizer. Nothing is padded.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
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
  prompt: np.ndarray  # i32 [n], length of the first segment ([CLS] ... [SEP])
  truncated: np.ndarray  # bool [n], whether the text was too long

  @property
  def lengths(self) -> np.ndarray:
    return np.diff(self.offset)

  def text(self, i: int) -> tuple[np.ndarray, int]:
    """(ids of text i, how many of the ids belong to the first segment)."""
    return self.ids[self.offset[i] : self.offset[i + 1]], int(self.prompt[i])


def load_tokenizer(folder: Path):
  """Loads the fast tokenizer in `folder`, with padding and truncation switched off.

  Raises:
    UserError: there is no tokenizer; or it cannot be loaded, has no fast version, or
      has no [CLS] or [SEP].
  """
  from transformers import AutoTokenizer

  advice = (
    "put the encoder's tokenizer files (tokenizer.json, vocab.txt or spm.model) next "
    "to config.json"
  )
  # Without these files, transformers would create a tokenizer with only special tokens.
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
  if backend is None or None in (tokenizer.cls_token_id, tokenizer.sep_token_id):
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

  A text that is too long loses tokens at its beginning. In a pair, only the prompt
  loses tokens, unless the response leaves no room for a prompt. Then the first
  token of the longer one is dropped, again and again, until both fit, as in the code of
  arXiv 2512.21107.

  Args:
    texts, responses: n strings; a response may be None.
    max_length: in tokens, including special ones; at least 4.
    encode_batch: maps texts to ids without special tokens; default: the tokenizer.
  """
  if encode_batch is None:
    backend = tokenizer.backend_tokenizer
    encode_batch = lambda batch: [
      encoding.ids for encoding in backend.encode_batch(batch, add_special_tokens=False)
    ]
  start, separator = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
  ids, prompt, truncated = [], [], []
  for begin in range(0, len(texts), CHUNK):
    chunk_responses = responses[begin : begin + CHUNK]
    text_ids = encode_batch(list(texts[begin : begin + CHUNK]))
    response_ids = iter(encode_batch([r for r in chunk_responses if r is not None]))
    for a, response in zip(text_ids, chunk_responses, strict=True):
      b = [] if response is None else next(response_ids)
      space = max_length - (2 if response is None else 3)
      total = len(a) + len(b)
      if total > space and len(b) >= space and response is not None:
        # Cut the longer one first; if both are equally long, cut the response first.
        b = b[len(b) - max(space - len(a), space // 2) :]
      first_segment = start + a[max(0, len(a) + len(b) - space) :] + separator
      second_segment = [] if response is None else b + separator
      ids.append(np.array(first_segment + second_segment, np.int32))
      prompt.append(len(first_segment))
      truncated.append(total > space)
  return Tokens(
    np.concatenate([np.zeros(0, np.int32), *ids]),
    np.cumsum([0, *map(len, ids)], dtype=np.int64),
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
    make: returns (texts, responses, begin i64); not called if the result is cached.
    backend: "hf" or "tftext". Both give the same ids, so they share the cache.
    modify: maps (tokens, tokenizer) to new tokens; `texts` and `responses` must
      determine them as well.

  Returns:
    The tokens and `begin`.
  """
  key = _cache_key(encoder, texts, responses, max_length)
  folder = fetch.cache_folder() / "tokens" / key
  if not (folder / "done").exists():
    tokenizer, encode_batch = load_tokenizer(encoder), None
    if backend == "tftext":
      encode_batch = tftext.make_encoder(tokenizer.backend_tokenizer, encoder)
    *views, begin = make()
    tokens = modify(encode(tokenizer, *views, max_length, encode_batch), tokenizer)
    _check_ids(tokens, encoder)
    try:
      with atomic_folder(folder) as temporary:
        for name, array in {**tokens._asdict(), "begin": begin}.items():
          np.save(temporary / f"{name}.npy", array)
        (temporary / "done").touch()
    except OSError as error:
      if not (folder / "done").exists():  # if it exists, another process was faster
        raise UserError(
          f"{folder}: cannot write the token cache ({error}); free some space, or set "
          "SSLJAX_CACHE to a writable folder"
        ) from error
  names = (*Tokens._fields, "begin")
  *tokens, begin = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in names)
  return Tokens(*tokens), begin


def _check_ids(tokens: Tokens, encoder: Path) -> None:
  """Raises UserError for an id without an embedding; its vector would be NaN."""
  rows = json.loads((encoder / "config.json").read_text()).get("vocab_size")
  highest = int(tokens.ids.max(initial=0))
  if rows is not None and highest >= rows:
    raise UserError(
      f"{encoder}: the tokenizer produces id {highest}, but the embedding has only "
      f"{rows} rows (vocab_size in config.json); use the encoder's own tokenizer files"
    )


def _cache_key(
  encoder: Path, texts: Sequence[str], responses: Sequence[str | None], max_length: int
) -> str:
  digest = hashlib.sha256(json.dumps([FORMAT, max_length]).encode())
  # config.json may be the only file that names the tokenizer's class.
  patterns = ("config.json", *TOKENIZER)
  for file in sorted({f for pattern in patterns for f in encoder.glob(pattern)}):
    content = file.read_bytes()
    digest.update(json.dumps([file.name, len(content)]).encode() + content)
  for pair in zip(texts, responses, strict=True):
    # The length of each text comes before the text, so that different lists never give
    # the same bytes.
    for text in pair:
      data = b"" if text is None else text.encode()
      digest.update(b"%d:" % (-1 if text is None else len(data)) + data)
  return digest.hexdigest()[:32]
