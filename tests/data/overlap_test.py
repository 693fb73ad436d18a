"""Texts of train that stand in validation or test: found, refused, dropped."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssljax.data import alike, contamination, overlap, sets
from ssljax.data.records import Splits, from_rows
from ssljax.errors import UserError

ROOT = Path(__file__).parents[2]
LONG = "a loaf of bread is baked in a hot oven for about forty minutes or more"


def row(id, text, response=None, views=()):
  views = [{"kind": k, "text": t, "response": r, "origin": ""} for k, t, r in views]
  return {"id": id, "text": text, "response": response, "label": 0, "views": views}


def splits(train, test):
  validation = [row("v", "something else")]
  train, validation, test = (from_rows(part) for part in (train, validation, test))
  return Splits(train, validation, test, ("a",), (), {})


@pytest.mark.parametrize(
  ("one", "other", "same"),
  [
    (("Bake  bread", None), ("bake\nbread ", None), True),
    (("ﬁne", None), ("fine", None), True),
    (("bake bread", None), ("bake breads", None), False),
    (("bake", "bread"), ("Bake", "Bread"), True),
    (("bake", "bread"), ("bake", "rolls"), False),
    (("bake", "bread"), ("bake bread", None), False),
  ],
)
def test_the_same_but_for_case_space_and_form(one, other, same):
  assert (alike.same(*one) == alike.same(*other)) == same


def test_a_pair_is_found_in_a_test_of_its_prompt_alone():
  train = from_rows([row("a", "bake", "bread"), row("b", "fry", "fish")])
  known = overlap.known([from_rows([row("t", "FRY")])])
  np.testing.assert_array_equal(overlap.rows(train, known), [[-1, -1], [0, 0]])


def test_overlap_is_refused_and_the_place_named():
  data = splits([row("a", "one"), row("b", "Two ")], [row("t", "two")])
  with pytest.raises(UserError, match=r"row 2: .*row 1 \(test\).*on_overlap=drop"):
    sets._without_overlap(data, "error")


def test_overlap_is_dropped_rows_and_views():
  views = [("llm", "TWO", None), ("llm", "own", None)]
  data = splits([row("a", "one", views=views), row("b", "two")], [row("t", "two")])
  clean = sets._without_overlap(data, "drop")
  assert clean.train.column("id") == ["a"]
  assert [v["text"] for v in clean.train.column("views")[0]] == ["own"]
  assert "1 rows of train and 1 views" in clean.notes[-1]
  assert sets._without_overlap(clean, "error") is clean


def test_a_view_alone_is_refused():
  data = splits([row("a", "one", views=[("llm", "two", None)])], [row("t", "two")])
  with pytest.raises(UserError, match="views"):
    sets._without_overlap(data, "error")


def test_near_texts_are_found_and_far_ones_are_not():
  near, far = LONG.replace("forty", "fifty"), LONG[::-1]
  train = from_rows([row("a", near, views=[("eda", LONG, None)]), row("b", far)])
  found = contamination.find(train, {"test": from_rows([row("t", LONG)])}, 0.6)
  assert [(f.id, f.view, f.other_id) for f in found] == [
    ("a", "", "t"),
    ("a", "eda", "t"),
  ]
  assert [f.exact for f in found] == [False, True]
  assert found[1].similarity == 1.0
  grams = contamination.grams(near, None), contamination.grams(LONG, None)
  assert found[0].similarity == len(grams[0] & grams[1]) / len(grams[0] | grams[1])
  assert not contamination.find(train.take(np.array([1])), {"test": train}, 0.6)[1:]


def test_other_words_in_a_text_of_two_are_near_and_not_exact():
  train, test = from_rows([row("a", "bake bread")]), from_rows([row("t", "bread bake")])
  (found,) = contamination.find(train, {"test": test}, 0.6)
  assert (found.exact, found.similarity) == (False, 1.0)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95])
def test_pairs_at_the_threshold_are_found(threshold):
  # Sets of 200 3-grams each of which k are shared: J = k / (400 - k).
  shared = int(np.ceil(400 * threshold / (1 + threshold)))
  index = contamination._Index(from_rows([]), threshold)
  for pair in range(50):
    one, other = (
      frozenset(f"{pair} {i}" for i in range(first, first + 200))
      for first in (0, 200 - shared)
    )
    index.grams.append(other)
    index.table.insert(pair, contamination._minhash(other))
    met = index.table.query(contamination._minhash(one))
    assert pair in met
    assert len(met) == 1


@pytest.mark.parametrize("copies", [0, 1])
def test_the_command_says_what_it_found(tmp_path, copies):
  for name, texts in {
    "train": ["one", "two", LONG] if copies else ["one", "two"],
    "val": ["three"],
    "test": [LONG + " than that", "five"],
  }.items():
    rows = [
      {"id": f"{name}{i}", "text": t, "label": i % 2} for i, t in enumerate(texts)
    ]
    (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "ssljax.data.contamination",
      f"--data={tmp_path}",
      f"--output={tmp_path}/new/found.json",
    ],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert done.returncode == copies, done.stderr
  assert f"near texts: {copies}" in done.stdout
  assert len(json.loads((tmp_path / "new" / "found.json").read_text())) == copies
