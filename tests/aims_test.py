"""Aims are read, named and described."""

import pytest

from ssljax import aims


@pytest.mark.parametrize(
  ("text", "name", "words"),
  [
    ("fpr=1%", "fpr=1%", "at most 1% of harmless texts flagged"),
    ("fpr_0.1%", "fpr=0.1%", "at most 0.1% of harmless texts flagged"),
    ("recall=95%", "recall=95%", "at least 95% of harmful texts flagged"),
    ("precision_90%", "precision=90%", "at least 90% of flagged texts harmful"),
    ("review=5.0%", "review=5%", "at most 5% of all texts flagged"),
    (
      "cost=20:2",
      "cost=10:1",
      "lowest cost, if a missed harmful text costs 10 false alarms",
    ),
    ("best_f1", "best_f1", "highest F1"),
  ],
)
def test_an_aim_has_one_name(text, name, words):
  aim = aims.parse(text)
  assert str(aim) == name
  assert aims.parse(name) == aim
  assert aims.describe(name) == words
  assert aims.canonical(text) == name


@pytest.mark.parametrize(
  "text",
  ["fpr=0.00005%", "recall=99.99999%", "fpr=0.1234567%", "cost=10000000:1", "cost=1:3"],
)
def test_a_name_can_be_read_again(text):
  """Otherwise the result.json of a finished run couldn't be read."""
  name = aims.canonical(text)
  assert aims.canonical(name) == name
  assert aims.parse(name).value == pytest.approx(aims.parse(text).value, rel=1e-8)


@pytest.mark.parametrize(
  "text",
  [
    *("", "fpr", "fpr=1", "fpr=0%", "fpr=100%", "fpr=-1%", "recall=99.9999999999%"),
    *("cost=0:1", "cost=1", "cost=1:0", "cost=1000000000:1", "f1=2%"),
  ],
)
def test_anything_else_is_refused(text):
  with pytest.raises(ValueError, match="is not an aim; aims are such as fpr=1%"):
    aims.parse(text)
  assert aims.canonical(text) == text
