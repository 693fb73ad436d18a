"""Tokenises each text once and caches the tokens on disk as flat integer arrays.

The cache key covers the texts, the tokenizer and the settings. A second or resumed run
maps the arrays into memory without loading a tokenizer, and checks that they are what
was written (see `sealed`). Nothing is padded.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.assets import fetch
from ssljax.assets.encoders import TOKENIZER
from ssljax.data.batches import sealed, tftext
from ssljax.data.batches.tokenizer import load_tokenizer
from ssljax.errors import RunError, UserError
from ssljax.runtime.atomic import FULL

# Of the cached arrays, by tokenization; increase one when their meaning changes.
FORMAT = {"transformers": 2, "exact": 4}
CHUNK = 4096  # texts per call of the tokenizer
UNKNOWN = 0.9  # share of unknown tokens above which the tokenizer may be a wrong one


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


def load_backend(encoder: Path, tokenization: str, backend: str):
  """Returns (tokenizer, `encode_batch` for `encode`).

  Args:
    backend: "hf" or "tftext".
  """
  tokenizer = load_tokenizer(encoder, tokenization)
  if backend == "tftext":
    return tokenizer, tftext.make_encoder(tokenizer.backend_tokenizer, encoder)
  return tokenizer, None


def encode_cached(
  encoder: Path,
  texts: Sequence[str],
  responses: Sequence[str | None],
  max_length: int,
  backend: str = "hf",
  **options: Any,
) -> Tokens:
  """`encode` with the tokenizer in folder `encoder`; results are cached.

  The options are those of `encode_views_cached`.
  """
  make = lambda: (texts, responses, np.arange(len(texts) + 1))
  return encode_views_cached(
    encoder, texts, responses, max_length, make, backend, **options
  )[0]


def encode_views_cached(
  encoder: Path,
  texts: Sequence[str],
  responses: Sequence[str | None],
  max_length: int,
  make: Callable[[], tuple[Sequence[str], Sequence[str | None], np.ndarray]],
  backend: str = "hf",
  modify: Callable[[Tokens, Any], Tokens] = lambda tokens, tokenizer: tokens,
  *,
  tokenization: str = "exact",
  verify: bool = False,
) -> tuple[Tokens, np.ndarray]:
  """Encodes views computed from the texts; results are cached.

  Cached arrays that aren't what was written are computed again, with a note on standard
  error.

  Args:
    texts, responses: the cache key; they must determine the result of `make`.
    make: returns (texts, responses, begin i64); not called if the result is cached.
    backend: "hf" or "tftext". Both give the same ids, so they share the cache.
    modify: maps (tokens, tokenizer) to new tokens; `texts` and `responses` must
      determine them as well.
    tokenization: see `load_tokenizer`.
    verify: compare all of the cached arrays with their digests; by default, only those
      whose file changed in size or time.

  Returns:
    The tokens and `begin`.
  """
  key = _cache_key(encoder, texts, responses, max_length, tokenization)
  folder = fetch.cache_folder() / "tokens" / key
  names = (*Tokens._fields, "begin")
  arrays = sealed.read_arrays(folder, names, verify)
  if arrays is None:
    if sealed.was_sealed(folder):
      print(f"{folder}: damaged; the texts are tokenised again", file=sys.stderr)
    tokenizer, encode_batch = load_backend(encoder, tokenization, backend)
    *views, begin = make()
    tokens = modify(encode(tokenizer, *views, max_length, encode_batch), tokenizer)
    if rows := json.loads((encoder / "config.json").read_text()).get("vocab_size"):
      check_ids(tokens, rows, tokenizer, lambda i: str(encoder))
    warn_if_unknown(encoder, *count_unknown(tokens, tokenizer), tokenizer.unk_token)
    computed = [*tokens, begin]
    problem = None
    try:
      sealed.write_arrays(folder, dict(zip(names, computed, strict=True)))
    except OSError as error:
      problem = error
    arrays = sealed.read_arrays(folder, names)
    if arrays is None and problem:  # no other process was faster
      kind = RunError if problem.errno in FULL else UserError
      raise kind(
        f"{folder}: cannot write the token cache ({problem}); free some space, or set "
        "SSLJAX_CACHE to a writable folder"
      ) from problem
    arrays = arrays or computed  # another process may be replacing the folder
  *tokens, begin = arrays
  return Tokens(*tokens), begin


def check_ids(tokens: Tokens, rows: int, tokenizer, name: Callable[[int], str]) -> None:
  """Raises UserError for an id without an embedding; its vector would be NaN.

  Args:
    rows: number of rows of the embedding.
    name: maps the index of a text to the place that the message names.
  """
  wrong = np.flatnonzero((tokens.ids < 0) | (tokens.ids >= rows))
  if wrong.size:
    text = int(np.searchsorted(tokens.offset, wrong[0], "right")) - 1
    number = int(tokens.ids[wrong[0]])
    raise UserError(
      f"{name(text)}: the tokenizer produces id {number} "
      f"({tokenizer.convert_ids_to_tokens(number)}), but the embedding has only {rows} "
      "rows (vocab_size in config.json); use the encoder's own tokenizer files"
    )


def vocabulary_size(tokenizer) -> int:
  """The highest id of a tokenizer, plus one. Some ids may be unused."""
  return max(tokenizer.get_vocab().values()) + 1


def are_unreadable(tokens: Tokens, tokenizer) -> np.ndarray:
  """bool [n], whether all tokens of a text are unknown, [CLS] and [SEP] aside.

  Also True for a text without any other token.
  """
  outer = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id]
  known = np.cumsum([0, *~np.isin(tokens.ids, [i for i in outer if i is not None])])
  return np.diff(known[tokens.offset]) == 0


def count_unknown(tokens: Tokens, tokenizer) -> tuple[int, int]:
  """(unknown tokens, all tokens), without [CLS] and [SEP]."""
  outer = [tokenizer.cls_token_id, tokenizer.sep_token_id]
  inner = tokens.ids[~np.isin(tokens.ids, outer)]
  return int((inner == tokenizer.unk_token_id).sum()), inner.size


def warn_if_unknown(encoder: Path, unknown: int, total: int, token: str) -> None:
  """Warns on standard error if nearly all tokens are unknown."""
  if total and unknown / total > UNKNOWN:
    print(
      f"{encoder}: {unknown / total:.0%} of the words are unknown ({token}); are these "
      "the encoder's own tokenizer files, and does it know the language?",
      file=sys.stderr,
    )


def fingerprint(encoder: Path, max_length: int, tokenization: str = "exact"):
  """A SHA-256 object that has read the tokenizer's files and the settings."""
  digest = hashlib.sha256(json.dumps([FORMAT[tokenization], max_length]).encode())
  # config.json may be the only file that names the tokenizer's class.
  patterns = ("config.json", *TOKENIZER)
  for file in sorted({f for pattern in patterns for f in encoder.glob(pattern)}):
    content = file.read_bytes()
    digest.update(json.dumps([file.name, len(content)]).encode() + content)
  return digest


def _cache_key(
  encoder: Path,
  texts: Sequence[str],
  responses: Sequence[str | None],
  max_length: int,
  tokenization: str = "exact",
) -> str:
  digest = fingerprint(encoder, max_length, tokenization)
  for pair in zip(texts, responses, strict=True):
    # The length of each text comes before the text, so that different lists never give
    # the same bytes.
    for text in pair:
      data = b"" if text is None else text.encode()
      digest.update(b"%d:" % (-1 if text is None else len(data)) + data)
  return digest.hexdigest()[:32]
