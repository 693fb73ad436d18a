"""The label budget is a partition, balanced, nested and determined by the seed."""

import numpy as np
import pytest

from ssljax.data import split
from ssljax.errors import UserError

RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat([0, 1, 2, -1], [100, 60, 20, 50]))


def draw(budget, seed=0, **more):
  return split.draw_budget(LABELS, budget, 3, seed, **more)


@pytest.mark.parametrize("mode", ["balanced", "stratified"])
@pytest.mark.parametrize("budget", [0, 3, 10, 31, 60])
@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_partition(mode, budget, seed):
  drawn = draw(budget, seed, mode=mode)
  both = np.concatenate([drawn.labelled, drawn.unlabelled])
  assert sorted(both.tolist()) == list(range(len(LABELS)))
  assert len(drawn.labelled) == (budget or 180)
  assert (LABELS[drawn.labelled] >= 0).all()
  assert set(LABELS[drawn.labelled]) == {0, 1, 2}
  assert (drawn.labelled.dtype, drawn.unlabelled.dtype) == (np.int64, np.uint32)
  assert (np.diff(drawn.labelled) > 0).all()


def test_same_seed_same_draw():
  first, second = draw(30, 3), draw(30, 3)
  assert first.labelled.tolist() == second.labelled.tolist()
  assert first.labelled.tolist() != draw(30, 4).labelled.tolist()


def test_the_draw_of_a_seed_never_changes():
  # A literal, to notice if a version of NumPy shuffles differently.
  drawn = split.draw_budget(np.arange(12) % 3, 6, 3, 0).labelled
  assert drawn.tolist() == [0, 1, 2, 5, 9, 10]


def test_balanced_counts_and_remainder():
  assert np.bincount(LABELS[draw(60).labelled]).tolist() == [20, 20, 20]
  assert draw(60).notes == ()
  drawn = draw(31, names=("no", "maybe", "yes"))
  assert sorted(np.bincount(LABELS[drawn.labelled]).tolist()) == [10, 10, 11]
  assert "31 is not a multiple of 3 classes" in drawn.notes[0]
  extra = int(np.argmax(np.bincount(LABELS[drawn.labelled])))
  assert f"(label {extra})" in drawn.notes[0]
  # The seed, not the order of the classes, decides which class gets more.
  first = {int(np.argmax(np.bincount(LABELS[draw(31, s).labelled]))) for s in range(20)}
  assert first == {0, 1, 2}


@pytest.mark.parametrize("seed", range(5))
def test_smaller_budgets_are_subsets_of_larger_ones(seed):
  before: set[int] = set()
  for budget in range(3, 61):
    now = set(draw(budget, seed).labelled.tolist())
    assert before < now
    before = now


def test_stratified():
  counts = lambda budget: np.bincount(
    LABELS[draw(budget, mode="stratified").labelled], minlength=3
  ).tolist()
  assert counts(18) == [10, 6, 2]
  assert counts(3) == [1, 1, 1]
  assert counts(4) == [2, 1, 1]
  assert counts(180) == [100, 60, 20]
  labels = np.repeat([0, 1], [995, 5])
  rare = split.draw_budget(labels, 20, 2, 0, mode="stratified")
  assert np.bincount(labels[rare.labelled]).tolist() == [19, 1]


def test_labelled_rows_join_the_pool_only_on_request():
  drawn = draw(30, include_labelled=True)
  assert drawn.unlabelled.tolist() == list(range(len(LABELS)))
  assert len(drawn.labelled) == 30
  assert not set(draw(30).labelled) & set(draw(30).unlabelled)


@pytest.mark.parametrize("ratio", [1, 4, 9, -4])
def test_labelled_imbalance(ratio):
  drawn = draw(34, labelled_imbalance=ratio)
  many = np.bincount(LABELS[drawn.labelled], minlength=3)
  root = abs(ratio) ** 0.5
  wanted = np.array([root, 1, 1 / root]) / (root + 1 + 1 / root) * 34
  wanted = wanted if ratio > 0 else wanted[::-1]
  assert many.sum() == 34
  assert np.abs(many - wanted).max() <= 1
  assert draw(34, labelled_imbalance=ratio).labelled.tolist() == drawn.labelled.tolist()
  assert f"{many[0]} of" in drawn.notes[-1]


@pytest.mark.parametrize("ratio", [1, 4, -16])
def test_unlabelled_imbalance_keeps_as_many_rows_as_possible(ratio):
  labels = LABELS[LABELS >= 0]
  whole = split.draw_budget(labels, 9, 3, 0)
  drawn = split.draw_budget(labels, 9, 3, 0, unlabelled_imbalance=ratio)
  assert set(drawn.unlabelled) <= set(whole.unlabelled)
  assert drawn.labelled.tolist() == whole.labelled.tolist()
  there = np.bincount(labels[whole.unlabelled], minlength=3)
  many = np.bincount(labels[drawn.unlabelled], minlength=3)
  shape = [abs(ratio) ** (-c / 2) for c in range(3)]
  shape = shape if ratio > 0 else shape[::-1]
  most = min(n / s for n, s in zip(there, shape, strict=True))
  assert many.tolist() == [int(most * s + 1e-9) for s in shape]
  assert (many == there).any()  # some class is used up
  assert f"{many[1]} of" in drawn.notes[-1]


def test_unlabelled_imbalance_needs_labels():
  with pytest.raises(UserError, match=r"unlabelled_imbalance=2: 50 rows .* no label"):
    draw(9, unlabelled_imbalance=2.0)


@pytest.mark.parametrize(
  ("budget", "more", "words"),
  [
    (63, {}, ["class 'yes' (label 2) needs 21", "has only 20", "labels=60 at most"]),
    (181, {"mode": "stratified"}, ["has only 100", "labels=180 at most"]),
    (99, {"labelled_imbalance": -5.0}, ["has only 20", "closer to 1"]),
    (2, {}, ["fewer than the 3 classes", "at least 3"]),
  ],
)
def test_invalid_budgets(budget, more, words):
  with pytest.raises(UserError) as error:
    draw(budget, names=("no", "maybe", "yes"), **more)
  for word in words:
    assert word in str(error.value)


def test_a_class_without_labelled_rows():
  with pytest.raises(UserError, match="class 3 has no labelled row"):
    split.draw_budget(LABELS, 8, 4, 0)


def test_divide_keeps_groups_together():
  n = 3000
  rng = np.random.default_rng(1)
  labels = rng.choice([0, 0, 0, 1], n)
  groups = rng.integers(0, 1500, n)
  last = np.array([np.flatnonzero(groups == g)[-1] for g in range(60) if g in groups])
  labels[last] = -1  # often in a group with labelled rows
  parts = split.divide(groups, labels, (0.7, 0.1, 0.2), 0)
  assert sorted(np.concatenate(parts).tolist()) == list(range(n))
  of = [set(groups[part]) for part in parts]
  assert not of[0] & of[1]
  assert not of[0] & of[2]
  assert not of[1] & of[2]
  assert set(groups[last]) <= of[0]
  for part, share in zip(parts, (0.7, 0.1, 0.2), strict=True):
    assert abs(len(part) / n - share) < 0.02
    assert abs((labels[part] == 1).mean() - 0.25) < 0.05
  again = split.divide(groups, labels, (0.7, 0.1, 0.2), 0)
  other = split.divide(groups, labels, (0.7, 0.1, 0.2), 1)
  assert [p.tolist() for p in again] == [p.tolist() for p in parts]
  assert other[2].tolist() != parts[2].tolist()
  # The numbers of the groups do not matter.
  renamed = split.divide(5000 - groups, labels, (0.7, 0.1, 0.2), 0)
  assert [p.tolist() for p in renamed] == [p.tolist() for p in parts]


def test_a_class_with_one_group_stays_in_the_first_part():
  labels = np.array([0] * 50 + [1])
  parts = split.divide(np.arange(51), labels, (0.7, 0.1, 0.2), 0)
  assert 50 in parts[0]


def test_group_texts():
  drawn = split.group_texts(["A text", "a  text ", "another", "A TEXT"])
  assert drawn.tolist() == [0, 0, 1, 0]
