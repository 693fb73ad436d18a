"""Finds the words in token ids, with a table over the encoder's vocabulary.

A word is a run of tokens that hold letters or digits, up to the next space, sign or
special token. In scripts without spaces between words, each token is a word (see
`word_noise`). A space that the tokenizer drops can't be seen: "don't" is two words.
"""

import re
from typing import NamedTuple

import numpy as np

from ssljax.data.batches import word_noise
from ssljax.data.batches.tokenize import vocabulary_size

LETTERS, ATTACHED, SINGLE, MARK, CAPITAL, OUTER, UNKNOWN = (1 << i for i in range(7))
SPACE = "\u2581"  # SentencePiece marks the pieces that follow a space
_WORDY = re.compile(r"\w")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SINGLES = re.compile(
  rf"(?:[{word_noise.SINGLE}{word_noise.CLUSTERED}]|{word_noise.MARK})+"
)
_MARKS = re.compile(rf"{word_noise.MARK}+")


class WordTable(NamedTuple):
  """What each id of a vocabulary of V pieces is."""

  kind: np.ndarray  # u8 [V], sum of the constants above
  characters: np.ndarray  # u8 [V]
  # The same piece in another form, or the piece itself if there is none: after a word,
  # after a space, and with a capital.
  attached: np.ndarray  # i32 [V]
  free: np.ndarray  # i32 [V]
  capital: np.ndarray  # i32 [V]
  mask: np.ndarray  # i32 [1], the id of the mask token; -1 if there is none


def make_table(tokenizer) -> WordTable:
  """The table of a tokenizer of transformers."""
  pieces = [""] * vocabulary_size(tokenizer)  # "" for ids without a piece
  for piece, i in tokenizer.get_vocab().items():
    pieces[i] = piece
  is_wordpiece = type(tokenizer.backend_tokenizer.model).__name__ == "WordPiece"
  continues = "##" if is_wordpiece else ""
  special = set(tokenizer.all_special_ids)
  outer = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
  kind = np.zeros(len(pieces), np.uint8)
  characters = np.zeros(len(pieces), np.uint8)
  surfaces = []
  for i, piece in enumerate(pieces):
    if continues:
      attached = piece.startswith(continues) and len(piece) > len(continues)
      surface = piece[len(continues) :] if attached else piece
    else:
      attached = not piece.startswith(SPACE)
      surface = piece.removeprefix(SPACE)
    surfaces.append((surface, attached))
    characters[i] = min(len(surface), 255)
    if i == tokenizer.unk_token_id:
      kind[i] = LETTERS | UNKNOWN
    elif i in special:
      kind[i] = OUTER if i in outer else 0
    elif _BYTE.fullmatch(piece):
      kind[i] = ATTACHED
    else:
      other = not surface.isascii()  # these patterns are slow
      is_mark = other and _MARKS.fullmatch(surface) is not None
      kind[i] = (
        LETTERS * (is_mark or _WORDY.search(surface) is not None)
        | ATTACHED * attached
        | SINGLE * (other and _SINGLES.fullmatch(surface) is not None)
        | MARK * is_mark
        | CAPITAL * surface[:1].isupper()
      )
  plain = np.flatnonzero(kind & LETTERS & ~np.uint8(UNKNOWN)).tolist()
  id_of = {surfaces[i]: i for i in reversed(plain)}
  own = np.arange(len(pieces), dtype=np.int32)
  attached, free, capital = own.copy(), own.copy(), own.copy()
  for i in plain:
    surface, is_attached = surfaces[i]
    attached[i] = id_of.get((surface, True), i)
    free[i] = id_of.get((surface, False), i)
    upper = surface[:1].upper() + surface[1:]
    capital[i] = id_of.get((upper, is_attached), i)
  mask = -1 if tokenizer.mask_token_id is None else tokenizer.mask_token_id
  return WordTable(
    kind, characters, attached, free, capital, np.array([mask], np.int32)
  )


class Words(NamedTuple):
  """The words of concatenated texts."""

  start: np.ndarray  # i64 [w], index of each word's first token
  length: np.ndarray  # i64 [w], in tokens
  characters: np.ndarray  # i64 [w]
  of_token: np.ndarray  # i64 [all tokens], index of the word; -1 between words


def find_words(ids: np.ndarray, table: WordTable) -> Words:
  """Finds the words in the ids of texts, each of which begins with a special token."""
  kind = table.kind[ids]
  inner = (kind & LETTERS) > 0
  after = np.zeros(len(ids), bool)  # follows a token of a word
  after[1:] = inner[:-1]
  single = (kind & (SINGLE | UNKNOWN)) > 0
  apart = single | ((kind & ATTACHED) == 0)
  apart[1:] |= single[:-1]
  begins = inner & (~after | (apart & ((kind & MARK) == 0)))
  word = np.where(inner, np.cumsum(begins) - 1, -1)
  count = int(begins.sum())
  length = np.bincount(word[inner], minlength=count)
  sizes = table.characters[ids[inner]]
  characters = np.bincount(word[inner], sizes, count).astype(np.int64)
  return Words(np.flatnonzero(begins), length, characters, word)


class WordSample(NamedTuple):
  """Words of a pool with their frequencies, from which replacements are drawn."""

  ids: np.ndarray  # i32 [tokens of all words]
  offset: np.ndarray  # i64 [V + 1], word i is ids[offset[i]:offset[i + 1]]
  cumulative: np.ndarray  # f64 [V], cumulative frequencies; the last is 1


def count_words(ids: np.ndarray, table: WordTable) -> WordSample:
  """Counts the words in the ids of texts; their order doesn't matter.

  Words with an unknown token, and those longer than `word_noise.MAX_WORD_LENGTH`
  characters, are left out.
  """
  words = find_words(ids, table)
  unknown = np.zeros(len(words.start) + 1, bool)
  unknown[words.of_token[(table.kind[ids] & UNKNOWN) > 0]] = True
  used = (words.characters <= word_noise.MAX_WORD_LENGTH) & ~unknown[:-1]
  start, length = words.start[used], words.length[used]
  # Words of each length are the rows of a matrix.
  parts, counts = [], []
  for size in np.unique(length):
    rows = ids[start[length == size][:, None] + np.arange(size)].astype(np.int32)
    distinct, count = _count_rows(rows, len(table.kind))
    parts.append(distinct)
    counts.append(count)
  sizes = np.concatenate([np.full(len(p), p.shape[1]) for p in parts] or [[]])
  total = np.cumsum(np.concatenate(counts or [[]]), dtype=np.float64)
  return WordSample(
    np.concatenate([np.zeros(0, np.int32), *(part.ravel() for part in parts)]),
    np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
    total / total[-1] if len(total) else total,
  )


def _count_rows(rows: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
  """The distinct rows of a matrix with entries below `limit`, and their counts."""
  size, bits = rows.shape[1], (limit - 1).bit_length()
  if size * bits > 64:  # rare, and slow
    return np.unique(rows, axis=0, return_counts=True)
  shifts = bits * np.arange(size - 1, -1, -1, dtype=np.uint64)
  numbers = (rows.astype(np.uint64) << shifts).sum(1)  # ordered as the rows are
  numbers, count = np.unique(numbers, return_counts=True)
  distinct = numbers[:, None] >> shifts & np.uint64((1 << bits) - 1)
  return distinct.astype(np.int32), count
