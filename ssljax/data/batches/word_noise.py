"""Word-level perturbation, the strong view `words` where no better one is stored.

Each word is, with a small probability each, deleted, swapped with the next one, or
replaced by a word of the data set drawn by its frequency: what EDA (arXiv 1901.11196)
and UDA (arXiv 1904.12848) do that needs no thesaurus. It knows no meaning, so it can
turn a harmful text into a harmless one; stored paraphrases are the better strong view.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Scripts without spaces between words go character by character.
SINGLE = r"\u3040-\u30ff\u3400-\u9fff"
WORD = re.compile(rf"([{SINGLE}]|[^\W{SINGLE}]+(?:['’-][^\W{SINGLE}]+)*)")
LONGEST = 30  # longer "words" are addresses, codes or unspaced scripts: left alone
FEWEST = 3  # in a shorter text every word carries the meaning: left alone
FORMAT = 1  # of what is made; raise it when the same seed makes other texts
COUNTED = 50_000  # texts are enough for the frequencies


class Vocabulary(NamedTuple):
  words: list[str]  # [V], sorted
  cumulative: np.ndarray  # f64 [V], of their frequencies, the last is 1


def vocabulary(texts: Sequence[str]) -> Vocabulary:
  """The words of the texts and how often each occurs.

  Of more than COUNTED texts, evenly spaced ones are counted.
  """
  count = Counter()
  for text in texts[:: max(1, len(texts) // COUNTED)]:
    count.update(word for word in WORD.findall(text) if len(word) <= LONGEST)
  words = sorted(count)  # the order of the texts has no say
  total = np.cumsum([count[word] for word in words], dtype=np.float64)
  return Vocabulary(words, total / total[-1] if words else total)


def perturb(
  text: str, rng: np.random.Generator, known: Vocabulary, rate: float = 0.1
) -> str:
  """Deletes, swaps and replaces words; punctuation and white space stay.

  Args:
    text: any string; one with fewer than FEWEST words comes back as it is.
    rng: the state decides the result, with `text`, `known` and `rate`.
    known: where replacements are drawn from.
    rate: probability of each of the three changes, for each word; at most 1/3.
  """
  parts = WORD.split(text)
  gaps, words = parts[::2], parts[1::2]
  n = len(words)
  if n < FEWEST:
    return text
  change = rng.random(n)
  hit = np.flatnonzero(change < 3 * rate)
  drawn = rng.random(len(hit))
  source = np.minimum(
    np.searchsorted(known.cumulative, drawn, side="right"), len(known.words) - 1
  )
  deleted = []
  for i, k in zip(hit.tolist(), source.tolist(), strict=True):
    if len(words[i]) > LONGEST:
      continue
    if change[i] < rate:
      deleted.append(i)
    elif change[i] < 2 * rate:
      if i + 1 < n:
        words[i], words[i + 1] = words[i + 1], words[i]
    elif known.words:
      new = known.words[k]
      words[i] = new[:1].upper() + new[1:] if words[i][:1].isupper() else new
  if len(deleted) == n:
    deleted.remove(int(drawn[0] * n))  # one word stays, any
  for i in reversed(deleted):
    del words[i]
    gaps[i : i + 2] = [_close(gaps[i], gaps[i + 1])]
  out = [piece for pair in zip(gaps, words, strict=False) for piece in pair]
  # A gap before a last word that is gone ends nothing.
  out.append(gaps[-1] if parts[-1] else gaps[-1].rstrip())
  return "".join(out)


def _close(before: str, after: str) -> str:
  """What stands between two words when the one between them is gone."""
  if after.isspace():  # the gap before stays, unless a line break would be lost
    return after if before.isspace() and "\n" in after else before
  if before.isspace():
    return after or before
  return before + (after.lstrip(" ") if before[-1:].isspace() else after)


def perturb_all(
  texts: Sequence[str],
  responses: Sequence[str | None],
  seed: int,
  candidates: int = 1,
  rate: float = 0.1,
) -> list[tuple[list[str], list[str | None]]]:
  """Perturbs every row; row r of candidate c depends on (seed, r, c) and the set.

  Args:
    texts, responses: n strings each; a response may be None. Both are perturbed,
      independently of each other.
    seed: any integer >= 0.
    candidates: how many differently perturbed copies.

  Returns:
    For each candidate (texts, responses), n each.
  """
  known = vocabulary([*texts, *(r for r in responses if r is not None)])
  found = []
  for candidate in range(candidates):
    new_texts, new_responses = [], []
    for row, (text, response) in enumerate(zip(texts, responses, strict=True)):
      rng = np.random.Generator(
        np.random.PCG64(np.random.SeedSequence((seed, row, candidate)))
      )
      new_texts.append(perturb(text, rng, known, rate))
      new_responses.append(
        None if response is None else perturb(response, rng, known, rate)
      )
    found.append((new_texts, new_responses))
  return found
