"""Near-duplicates are found by MinHash."""

import numpy as np
import pytest

from ssljax.data.dedup import near
from ssljax.data.records.records import from_rows
from tests.data.dedup.rows import LONG, row


@pytest.mark.parametrize(
  "changed",
  [
    LONG.replace("forty", "fifty"),
    LONG.title() + "?",
    LONG.replace("bread ", "bread, "),
    "".join(c + "\u200b" for c in LONG.replace("hot", "warm")),
    LONG + ", or so they say",
  ],
)
def test_small_changes_are_near_duplicates(changed):
  train = from_rows([row("a", changed), row("b", LONG[::-1])])
  (overlap,) = near.find_overlaps(train, {"test": from_rows([row("t", LONG)])}, 0.6)
  assert (overlap.id, overlap.other_id, overlap.exact) == ("a", "t", False)
  ours, theirs = near.character_ngrams(changed), near.character_ngrams(LONG)
  assert overlap.similarity == len(ours & theirs) / len(ours | theirs)


def test_near_duplicates_in_scripts_without_spaces():
  text = "如何在家里用烤箱烤一个又大又软的面包"
  train = from_rows([row("a", text + "？"), row("b", text[:9] + "小" + text[10:])])
  overlaps = near.find_overlaps(train, {"test": from_rows([row("t", text)])}, 0.3)
  assert [f.id for f in overlaps] == ["a", "b"]


def test_views_are_compared():
  views = [("eda", LONG, None), ("llm", LONG.replace("hot", "warm"), None)]
  train = from_rows([row("a", "bake", views=views)])
  overlaps = near.find_overlaps(train, {"test": from_rows([row("t", LONG)])}, 0.6)
  assert [(f.view, f.exact) for f in overlaps] == [("eda", True), ("llm", False)]
  assert overlaps[0].similarity == 1.0


def test_near_duplicates_of_pairs_and_prompts():
  similar, other = LONG.replace("forty", "fifty"), "No, that I will not tell you."
  train = from_rows([row("a", similar, other), row("b", similar)])
  tests = {
    "pairs": from_rows([row("t", LONG, "Yes: the bread stands on the table.")]),
    "prompts": from_rows([row("t", LONG)]),
    "answers": from_rows([row("t", "Of bread?", other), row("u", LONG, other + ".")]),
  }
  overlaps = near.find_overlaps(train, tests, 0.6)
  assert [(f.id, f.other, f.other_id) for f in overlaps] == [
    ("a", "prompts", "t"),
    ("a", "answers", "u"),
    ("b", "pairs", "t"),
    ("b", "prompts", "t"),
    ("b", "answers", "u"),
  ]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.8, 0.95])
def test_pairs_at_the_threshold_are_found(threshold):
  # Sets of 200 grams each of which k are shared: J = k / (400 - k).
  shared = int(np.ceil(400 * threshold / (1 + threshold)))
  index = near.NearestIndex(threshold)
  for pair in range(50):
    query, stored = (
      frozenset(f"{pair} {i}" for i in range(first, first + 200))
      for first in (0, 200 - shared)
    )
    index.add(pair, stored)
    matches = index.table.query(near.minhash(query))
    assert pair in matches
    assert len(matches) == 1


def test_ngrams_ignore_punctuation_and_case():
  assert near.character_ngrams("Bake, (white) bread?") == near.character_ngrams(
    "bake white bread"
  )
  assert near.character_ngrams("面包，白的？") == near.character_ngrams("面包 白的")
  assert near.character_ngrams("?!") == {"?!"}  # if there is nothing else
