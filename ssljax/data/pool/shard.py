"""A shard of a token store: what is kept of some thousand rows of a training file.

The arrays of a shard lie in one file, because each mapped file takes a descriptor.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.data.batches import sealed, tokenize
from ssljax.data.batches.tokenize import Tokens
from ssljax.data.dedup.normalize import text_digest
from ssljax.data.records import checks
from ssljax.data.records.records import Records

FORMAT = 1  # increase it when the arrays change
FILE = "arrays"  # the name of the file, without .npy
ALIGNMENT = 64  # bytes
FALLBACK = "fallback:"  # `origin` of what augmentation stores for a text without views


class Encoding(NamedTuple):
  """How texts become tokens; see config.Keys."""

  encoder: Path
  max_length: int
  tokenization: str
  backend: str


class Shard(NamedTuple):
  """n rows with m stored views; the views of a row follow each other."""

  line: np.ndarray  # i64 [n], in the file
  id: np.ndarray  # u8 [n, 16], digest of the id
  label: np.ndarray  # i32 [n], -1 without a label
  paired: np.ndarray  # bool [n + m], whether there is a response
  digest: np.ndarray  # u8 [n + m, 16], of the texts, then of the views
  prompt_digest: np.ndarray  # u8 [n + m, 16], without the responses
  tokens: Tokens  # of the texts, then of the views
  begin: np.ndarray  # i64 [n + 1], row i has the views begin[i] to begin[i + 1] - 1
  kind: np.ndarray  # u16 [m], index into `kinds`
  fallback: np.ndarray  # bool [m]
  kinds: tuple[str, ...]
  names: tuple[tuple[int, int, str | None], ...]  # (row, label, name), see `_first`
  ignored: tuple[str, ...]  # columns of the file
  unknown: tuple[int, int]  # (unknown tokens, all tokens) of the texts

  def __len__(self) -> int:
    return len(self.label)


def make(records: Records, ignored: tuple[str, ...], encoding: Encoding) -> Shard:
  """Checks and tokenises rows.

  Raises:
    UserError: a bad row (see `checks.check_rows`), or an id without an embedding.
  """
  checks.check_rows(records)
  texts, responses = records.column("text"), records.column("response")
  rows = len(texts)
  begin, kind, fallback = [0], [], []
  number_of: dict[str, int] = {}  # each kind's index into `kinds`
  for row, views in enumerate(records.column("views")):
    for view in views or ():
      texts.append(view["text"])
      responses.append(view["response"] or responses[row])
      kind.append(number_of.setdefault(view["kind"], len(number_of)))
      fallback.append((view["origin"] or "").startswith(FALLBACK))
    begin.append(len(kind))
  tokenizer, encode_batch = _backend(encoding)
  tokens = tokenize.encode(
    tokenizer, texts, responses, encoding.max_length, encode_batch
  )
  place = lambda i: records.location(
    i if i < rows else int(np.searchsorted(begin, i - rows, "right")) - 1
  )
  size = json.loads((encoding.encoder / "config.json").read_text()).get("vocab_size")
  if size:
    tokenize.check_ids(tokens, size, tokenizer, place)
  own = tokens._replace(ids=tokens.ids[: tokens.offset[rows]])
  small = tokenize.vocabulary_size(tokenizer) <= 1 << 16
  prompts = [text_digest(text, None) for text in texts]
  digests = [
    text_digest(text, response) if response else prompt
    for text, response, prompt in zip(texts, responses, prompts, strict=True)
  ]
  return Shard(
    line=records.line,
    id=as_array(map(id_digest, records.column("id"))),
    label=records.label.astype(np.int32),
    paired=np.array([bool(response) for response in responses]),
    digest=as_array(digests),
    prompt_digest=as_array(prompts),
    tokens=tokens._replace(ids=tokens.ids.astype(np.uint16 if small else np.int32)),
    begin=np.array(begin, np.int64),
    kind=np.array(kind, np.uint16),
    fallback=np.array(fallback, bool),
    kinds=tuple(number_of),
    names=_first(records),
    ignored=ignored,
    unknown=tokenize.count_unknown(own, tokenizer),
  )


def as_array(digests: Iterable[bytes]) -> np.ndarray:
  """u8 [n, 16]."""
  return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)


def id_digest(id_: str) -> bytes:
  """16 bytes."""
  return hashlib.blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@functools.lru_cache(maxsize=1)
def _backend(encoding: Encoding):
  return tokenize.load_backend(
    encoding.encoder, encoding.tokenization, encoding.backend
  )


def _first(records: Records) -> tuple[tuple[int, int, str | None], ...]:
  """(row, label, name) of the first row of each pair of a label and a name."""
  first: dict[tuple[int, str | None], int] = {}
  pairs = zip(records.label.tolist(), records.column("label_name"), strict=True)
  for row, pair in enumerate(pairs):
    first.setdefault(pair, row)
  return tuple((row, *pair) for pair, row in first.items())


def write(folder: Path, shard: Shard) -> None:
  """Writes a shard so that it's there completely or not at all; see `sealed`.

  Raises:
    OSError: it can't be written.
  """
  arrays: dict[str, np.ndarray] = {}
  plain: dict[str, Any] = {}
  for name, value in shard._asdict().items():
    if isinstance(value, Tokens):
      arrays |= {f"{name}.{key}": array for key, array in value._asdict().items()}
    elif isinstance(value, np.ndarray):
      arrays[name] = value
    else:
      plain[name] = value
  sealed.write_arrays(folder, {FILE: _pack(arrays, plain)})


def is_whole(folder: Path, verify: bool = False) -> bool:
  """Whether a shard is there as it was written; see `sealed.is_whole`."""
  return sealed.is_whole(folder, [FILE], verify)


def read(folder: Path, verify: bool = False) -> Shard | None:
  """Maps a shard into memory; returns None if it isn't there as it was written."""
  arrays = sealed.read_arrays(folder, [FILE], verify)
  if arrays is None:
    return None
  found, plain = _unpack(arrays[0])
  plain |= {name: tuple(map(_as_tuple, plain[name])) for name in plain}
  tokens = Tokens(*(found.pop(f"tokens.{name}") for name in Tokens._fields))
  return Shard(tokens=tokens, **found, **plain)


def _as_tuple(value: Any) -> Any:
  return tuple(value) if isinstance(value, list) else value


def _pack(arrays: Mapping[str, np.ndarray], plain: Mapping[str, Any]) -> np.ndarray:
  """All arrays one after the other, u8; a list of them precedes."""
  layout, position = {}, 0
  for name, array in arrays.items():
    layout[name] = (array.dtype.str, array.shape, position)
    position += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
  head = json.dumps([layout, plain]).encode()
  head += b" " * (-(len(head) + 8) % ALIGNMENT)
  start = 8 + len(head)
  packed = np.zeros(start + position, np.uint8)
  packed[:8] = np.frombuffer(len(head).to_bytes(8, "little"), np.uint8)
  packed[8:start] = np.frombuffer(head, np.uint8)
  for name, array in arrays.items():
    at = start + layout[name][2]
    packed[at : at + array.nbytes] = (
      np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    )
  return packed


def _unpack(packed: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  start = 8 + int.from_bytes(packed[:8].tobytes(), "little")
  layout, plain = json.loads(packed[8:start].tobytes())
  arrays = {}
  for name, (dtype, shape, position) in layout.items():
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    part = packed[start + position : start + position + size]
    arrays[name] = part.view(dtype).reshape(shape)
  return arrays, plain
