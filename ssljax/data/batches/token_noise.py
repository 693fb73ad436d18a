"""Random changes of words in token ids: the views `words` and `masked`.

`perturb` deletes, swaps and replaces words, by the rules of `word_noise.perturb`.
`mask` masks whole words. Both change all texts of a batch at once, and each text
depends only on its own ids and seed, so that every visit of a text gets new noise.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssljax.data.batches import order, word_noise
from ssljax.data.batches.token_words import (
  ATTACHED,
  CAPITAL,
  OUTER,
  WordSample,
  WordTable,
  find_words,
)

RATE = 0.1  # probability of each of the three changes of a word
MASKED = 0.15  # fraction of the words to mask, as in BERT's training

Text = tuple[np.ndarray, int]  # (ids, how many of them belong to the first segment)


class _Batch(NamedTuple):
  """Concatenated texts."""

  ids: np.ndarray  # i32 [all tokens]
  start: np.ndarray  # i64 [n], index of each text's first token
  text: np.ndarray  # i64 [all tokens], index of the text
  segment: np.ndarray  # i64 [all tokens], 2 text + (1 in the response)


def _join(texts: Sequence[Text]) -> _Batch:
  lengths = np.array([len(ids) for ids, _ in texts])
  start = np.cumsum(lengths) - lengths
  text = np.repeat(np.arange(len(texts)), lengths)
  prompt = np.array([size for _, size in texts])
  position = np.arange(lengths.sum()) - start[text]
  ids = np.concatenate([ids for ids, _ in texts]).astype(np.int32)
  return _Batch(ids, start, text, 2 * text + (position >= prompt[text]))


def _uniform(seeds: np.ndarray, stream: int, number: np.ndarray) -> np.ndarray:
  """A random f64 in [0, 1) for each (seed, stream, number)."""
  epoch = np.full(len(number), stream)
  random = order.scramble(seeds, epoch, number) >> np.uint64(11)
  return random.astype(np.float64) * 2.0**-53


def _rank(group: np.ndarray) -> np.ndarray:
  """The position of each item within its group; equal groups are consecutive."""
  first = np.ones(len(group), bool)
  first[1:] = group[1:] != group[:-1]
  index = np.arange(len(group))
  return index - np.maximum.accumulate(np.where(first, index, 0))


def perturb(
  texts: Sequence[Text],
  seeds: np.ndarray,
  table: WordTable,
  sample: WordSample,
  limit: int,
  rate: float = RATE,
) -> list[Text]:
  """Deletes, swaps and replaces words; keeps everything between them.

  Prompt and response are perturbed independently. A segment with fewer than
  `word_noise.MIN_WORDS` words isn't changed, nor is a word that is longer than
  `word_noise.MAX_WORD_LENGTH`.

  Args:
    texts: each begins with [CLS]; each segment ends with [SEP].
    seeds: u64 [n], one for each text.
    sample: replacements are drawn from it.
    limit: longer results lose tokens at their beginning, as in `tokenize.encode`.
    rate: probability of each of the three changes for each word; at most 1/3.
  """
  if not texts:
    return []
  batch = _join(texts)
  words = find_words(batch.ids, table)
  n = len(words.start)
  segment = batch.segment[words.start]
  count = np.bincount(segment, minlength=2 * len(texts))
  place = _rank(segment)  # within the segment
  seed = seeds[segment // 2] ^ (segment % 2).astype(np.uint64)
  change = _uniform(seed, 0, place)
  change[words.characters > word_noise.MAX_WORD_LENGTH] = 1.0
  change[count[segment] < word_noise.MIN_WORDS] = 1.0
  is_last = place == count[segment] - 1
  deleted = change < rate
  swapped = (rate <= change) & (change < 2 * rate) & ~is_last
  replaced = (2 * rate <= change) & (change < 3 * rate) & (len(sample.cumulative) > 0)
  # Keep one random word of a segment.
  all_deleted = np.bincount(segment[deleted], minlength=2 * len(texts)) == count
  if (all_deleted & (count > 0)).any():
    kept = (_uniform(seed, 2, place * 0) * count[segment]).astype(np.int64)
    deleted &= ~(all_deleted[segment] & (place == kept))

  # A run of swaps moves its first word to its end, and the others to the left.
  source = np.arange(n)
  source[swapped] += 1
  after = np.zeros(n, bool)
  after[1:] = swapped[:-1]
  first = np.maximum.accumulate(np.where(swapped & ~after, np.arange(n), 0))
  ends = after & ~swapped
  source[ends] = first[np.flatnonzero(ends) - 1]

  # Tokens are numbered: first those of the texts, then those of the sample.
  take_from, take = words.start[source], words.length[source]
  if replaced.any():
    chosen = np.searchsorted(
      sample.cumulative, _uniform(seed, 1, place)[replaced], "right"
    )
    chosen = np.minimum(chosen, len(sample.cumulative) - 1)
    take_from[replaced] = len(batch.ids) + sample.offset[chosen]
    take[replaced] = np.diff(sample.offset)[chosen]
  take[deleted] = 0
  size = (words.of_token < 0).astype(np.int64)  # of what replaces a token
  begin = np.arange(len(batch.ids))
  size[words.start], begin[words.start] = take, take_from
  ends_at = np.cumsum(size)
  number = np.repeat(begin - (ends_at - size), size) + np.arange(ends_at[-1])
  drawn = number >= len(batch.ids)
  ids = batch.ids[np.where(drawn, 0, number)]
  ids[drawn] = sample.ids[number[drawn] - len(batch.ids)]
  # The first token of a word takes the form that fits its new place.
  moved = np.flatnonzero(((source != np.arange(n)) | replaced) & (take > 0))
  at = (ends_at - size)[words.start[moved]]
  old = table.kind[batch.ids[words.start[moved]]]
  new = np.where(old & ATTACHED, table.attached[ids[at]], table.free[ids[at]])
  capital = ((old & CAPITAL) > 0) & replaced[moved]
  ids[at] = np.where(capital, table.capital[new], new)

  sizes = np.bincount(batch.segment, size, 2 * len(texts)).astype(np.int64)
  bounds = np.cumsum(np.concatenate([[0], sizes]))
  return [
    _cut(ids[bounds[2 * i] : bounds[2 * i + 2]], int(sizes[2 * i]), limit)
    for i in range(len(texts))
  ]


def _cut(ids: np.ndarray, prompt: int, limit: int) -> Text:
  """Drops tokens at the beginning of the prompt, then at that of the response."""
  excess = len(ids) - limit
  if excess <= 0:
    return ids, prompt
  first = min(excess, prompt - 2)  # [CLS] and [SEP] stay
  kept = [ids[:1], ids[1 + first : prompt], ids[prompt + excess - first :]]
  return np.concatenate(kept), prompt - first


def mask(
  texts: Sequence[Text], seeds: np.ndarray, table: WordTable, rate: float = MASKED
) -> list[Text]:
  """Masks random whole words: all pieces of a word or none (arXiv 1810.04805).

  [CLS] and [SEP] are never masked. Signs count as words, as in `tftext.mask_words`.

  Args:
    seeds: u64 [n], one for each text.
    rate: fraction of a text's words to mask; the number of words is rounded up.
  """
  if not texts:
    return []
  batch = _join(texts)
  kind = table.kind[batch.ids]
  outer = (kind & OUTER) > 0
  begins = (kind & ATTACHED) == 0
  begins[0] = True
  begins[1:] |= outer[:-1]  # a word starts after a special token, whatever the piece
  begins |= outer
  word = np.cumsum(begins) - 1
  start = np.flatnonzero(begins)
  maskable = np.flatnonzero(~outer[start])
  text = batch.text[start[maskable]]
  number = _rank(text)
  order_ = np.lexsort((_uniform(seeds[text], 3, number), text))
  count = np.bincount(text, minlength=len(texts))
  masked = np.zeros(len(start), bool)
  masked[maskable[order_]] = number < np.ceil(rate * count)[text]
  ids = np.where(masked[word], table.mask[0], batch.ids).astype(np.int32)
  return [
    (ids[a : a + len(own)], prompt)
    for a, (own, prompt) in zip(batch.start.tolist(), texts, strict=True)
  ]
