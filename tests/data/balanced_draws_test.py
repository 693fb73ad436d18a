"""The draws of self-training, on cases made by hand and against plain loops."""

import math

import numpy as np
import pytest

from ssljax.data.balanced_draws import crest, crest_shares, noisy_student

LABEL = np.array([0, 0, 0, 0, 0, 1, 1, 1])
CONFIDENCE = np.array([0.9, 0.6, 0.95, 0.6, 0.2, 0.7, 0.25, 0.8])


def test_the_student_gets_the_most_confident_texts_of_each_class():
  copies = noisy_student(LABEL, CONFIDENCE, np.ones(2), (0,), per_class=2)
  assert copies.tolist() == [1, 0, 1, 0, 0, 1, 0, 1]
  # Of equally confident texts, the earlier one is drawn.
  copies = noisy_student(LABEL, CONFIDENCE, np.ones(2), (0,), per_class=3)
  assert copies[:5].tolist() == [1, 1, 1, 0, 0]


def test_a_class_with_too_few_confident_texts_gets_copies_of_them():
  copies = noisy_student(LABEL, CONFIDENCE, np.ones(2), (0,), floor=0.75, per_class=5)
  assert copies[5:].tolist() == [0, 0, 5]
  assert copies[:5].sum() == 5
  assert {copies[0], copies[2]} == {2, 3}
  extra = {
    int(noisy_student(LABEL, CONFIDENCE, np.ones(2), (0, i), 0.75, 5)[0])
    for i in range(20)
  }
  assert extra == {2, 3}  # which text gets the third copy is random


def test_the_floor_is_a_lower_limit_and_may_leave_a_class_empty():
  copies = noisy_student(LABEL, CONFIDENCE, np.ones(2), (0,), floor=0.8, per_class=1)
  assert copies.tolist() == [0, 0, 1, 0, 0, 0, 0, 1]
  copies = noisy_student(LABEL, CONFIDENCE, np.ones(2), (0,), floor=0.9, per_class=2)
  assert copies.tolist() == [1, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("per_class", [0, 7, 60])
def test_the_student_equals_a_plain_loop(classes, per_class):
  random = np.random.default_rng(classes + per_class)
  label = random.choice(
    classes, size=200, p=np.arange(1, classes + 1) / sum(range(1, classes + 1))
  )
  confidence = np.round(random.uniform(size=200), 2)
  copies = noisy_student(label, confidence, np.ones(classes), (3, 1), 0.4, per_class)
  wanted = per_class or 200 // classes
  for c in range(classes):
    rows = [i for i in range(200) if label[i] == c and confidence[i] >= 0.4]
    rows.sort(key=lambda i: (-confidence[i], i))
    drawn = copies[label == c]
    assert drawn.sum() == wanted
    if len(rows) >= wanted:
      assert np.flatnonzero(copies * (label == c)).tolist() == sorted(rows[:wanted])
      assert drawn.max() == 1
    else:
      assert {copies[i] for i in rows} <= {wanted // len(rows), wanted // len(rows) + 1}
  again = noisy_student(label, confidence, np.ones(classes), (3, 1), 0.4, per_class)
  assert again.tolist() == copies.tolist()


def test_crest_draws_all_of_the_rarest_class_and_half_of_one_eight_times_as_frequent():
  # (1 / 8) ** (1 / 3) = 1 / 2
  copies = crest(LABEL, CONFIDENCE, np.array([8, 1]), (0,))
  assert copies.tolist() == [1, 0, 1, 0, 0, 1, 1, 1]
  copies = crest(LABEL, CONFIDENCE, np.array([1, 8]), (0,))
  assert copies.tolist() == [1, 1, 1, 1, 1, 0, 0, 1]


def test_the_shares_of_crest_are_those_of_the_paper():
  # Ten classes, the first a hundred times the last.
  counts = 1000 * 100.0 ** (-np.arange(10) / 9)
  shares = crest_shares(counts, 1 / 3)
  assert shares[9] == 1
  assert shares[0] == pytest.approx(0.01 ** (1 / 3))
  assert np.all(np.diff(shares) > 0)
  # The order of the classes doesn't matter.
  order = np.random.default_rng(0).permutation(10)
  np.testing.assert_allclose(crest_shares(counts[order], 1 / 3), shares[order])
  assert crest_shares(np.array([5, 5]), 1 / 3).tolist() == [1, 1]


@pytest.mark.parametrize("alpha", [0.0, 1 / 3, 1.0])
def test_crest_equals_a_plain_loop(alpha):
  random = np.random.default_rng(0)
  label, confidence = random.integers(3, size=100), random.uniform(size=100)
  counts = [20, 5, 80]
  copies = crest(label, confidence, np.array(counts), (0,), alpha)
  descending = sorted(range(3), key=lambda c: -counts[c])
  for rank, c in enumerate(descending):
    rate = (counts[descending[2 - rank]] / counts[descending[0]]) ** alpha
    rows = sorted(
      (i for i in range(100) if label[i] == c), key=lambda i: -confidence[i]
    )
    drawn = rows[: math.floor(rate * len(rows) + 1e-9)]
    assert np.flatnonzero(copies * (label == c)).tolist() == sorted(drawn)
