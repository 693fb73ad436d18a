"""The quality of pseudo-labels, counted by hand, and the table of generations."""

import numpy as np
import pytest

from ssljax.data.pseudo_labels import PseudoLabels
from ssljax.evals import generations

NAMES = ("fine", "harmful")
PSEUDO = PseudoLabels(
  ["a", "b", "c", "d", "e"], np.array([0, 0, 1, 1, 1]), np.array([1, 1, 3, 0, 1])
)


def test_purity_counts_copies_and_only_texts_whose_label_is_known():
  quality = generations.quality(PSEUDO, np.array([0, 1, 1, 0, -1]), NAMES)
  assert quality == {
    "drawn": {
      "fine": {"texts": 2, "labels": 2, "purity": 0.5},
      "harmful": {"texts": 2, "labels": 4, "purity": 1.0},
    },
    "purity": pytest.approx(4 / 5),
    "pool_purity": pytest.approx(2 / 4),
  }
  assert generations.describe(quality) == (
    "2 texts as fine, 50.0% right; 2 texts and 2 copies as harmful, 100.0% right (of "
    "all labels in the pool, 50.0% are right)"
  )


def test_unknown_purity_is_left_out():
  quality = generations.quality(PSEUDO, np.full(5, -1), NAMES)
  assert quality["purity"] is quality["pool_purity"] is None
  assert generations.describe(quality) == (
    "2 texts as fine; 2 texts and 2 copies as harmful"
  )


def test_the_table_has_a_line_for_each_generation():
  first = {"generation": 0, "validation": {"f1": 0.5}, "test": {"f1": None}}
  quality = generations.quality(PSEUDO, np.array([0, 1, 1, 0, -1]), NAMES)
  second = {"generation": 1, **quality, "validation": {"f1": 1.0}, "test": {"f1": 0.25}}
  assert [line.split() for line in generations.table([first, second])[1:]] == [
    ["0", "-", "-", "0.500", "-"],
    ["1", "6", "80.0%", "1.000", "0.250"],
  ]
