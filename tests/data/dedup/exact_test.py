"""Exact duplicates between train and test are found, refused or dropped."""

import pytest

from ssljax.data.dedup import exact, near
from ssljax.data.records.records import Splits, from_rows
from ssljax.errors import UserError
from tests.data.dedup.rows import row


def splits(train, test):
  validation = [row("v", "something else")]
  train, validation, test = (from_rows(part) for part in (train, validation, test))
  return Splits(train, validation, test, ("a",), ())


@pytest.mark.parametrize(
  ("train", "test", "is_duplicate"),
  [
    (("fry", "fish"), ("FRY", None), True),
    (("fry", None), ("FRY", "fish"), True),
    (("fry", "fish"), ("Fry", "fish"), True),
    (("fry", "fish"), ("fry", "meat"), False),
    (("fry", ""), ("fry", None), True),
    (("fry", ""), ("fry", "fish"), True),
    (("fry", None), ("bake", "fry"), False),
  ],
)
def test_pairs_and_prompts(train, test, is_duplicate):
  train_set, test_set = (
    from_rows([row("a", "one"), row("b", *train)]),
    from_rows([row("t", *test)]),
  )
  index = exact.index_digests([from_rows([row("v", "none")]), test_set])
  match = lambda *place: {place: (1, 0)} if is_duplicate else {}
  assert exact.find_duplicates(train_set, index) == match(1, None)
  as_view = from_rows([row("a", "one", train[1], views=[("llm", train[0], None)])])
  assert exact.find_duplicates(as_view, index) == match(0, 0)
  overlaps = near.find_overlaps(train_set, {"test": test_set}, 0.6)
  assert [(f.id, f.exact) for f in overlaps] == ([("b", True)] if is_duplicate else [])


def test_views_inherit_the_response_of_their_row():
  index = exact.index_digests([from_rows([row("t", "fry", "fish")])])
  views = [("a", "Fry", None), ("b", "Fry", ""), ("c", "Fry", "meat")]
  train_set = from_rows([row("r", "cook", "fish", views)])
  assert [view for _, view in exact.find_duplicates(train_set, index)] == [0, 1]
  for response, found in (("fish", ["a", "b"]), ("meat", ["c"])):
    other = from_rows([row("t", "fry", response)])
    overlaps = near.find_overlaps(train_set, {"test": other}, 0.6)
    assert [(f.view, f.exact) for f in overlaps] == [(kind, True) for kind in found]


def test_overlap_is_refused():
  data = splits([row("a", "one"), row("b", "Two ")], [row("t", "two")])
  with pytest.raises(UserError, match=r"row 2: .*in test \(.*row 1\).*on_overlap=drop"):
    exact.resolve_overlap(data, "error")


def test_overlapping_rows_and_views_are_dropped():
  views = [("llm", "TWO", None), ("llm", "own", None)]
  data = splits([row("a", "one", views=views), row("b", "two")], [row("t", "two")])
  clean, dropped = exact.resolve_overlap(data, "drop")
  assert clean.train.column("id") == ["a"]
  assert [v["text"] for v in clean.train.column("views")[0]] == ["own"]
  assert "1 rows and 1 views of train" in dropped
  assert clean.notes[-1] == dropped
  assert exact.resolve_overlap(clean, "error") == (clean, "")


def test_an_overlapping_view_is_refused():
  data = splits([row("a", "one", views=[("llm", "two", None)])], [row("t", "two")])
  with pytest.raises(UserError, match="views"):
    exact.resolve_overlap(data, "error")
