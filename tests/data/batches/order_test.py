"""Batches have one row of every length stratum, or follow shuffled epochs."""

import grain
import numpy as np
import pytest

from ssljax.data.batches import order

LENGTHS = np.random.default_rng(0).lognormal(4, 1, 103).round()  # heavy-tailed
RANDOM = order.shuffled_rows(103, 16, 5)
STRATIFIED = order.stratified_rows(LENGTHS, 16, 5)


def test_each_batch_has_a_row_of_every_stratum():
  rank = np.argsort(np.argsort(LENGTHS, kind="stable"))
  sizes = np.diff(np.arange(17) * 103 // 16)
  first = np.cumsum(sizes) - sizes
  assert set(sizes) <= {6, 7}
  for t in range(30):
    ranks = np.sort(rank[STRATIFIED(t)[0]])
    assert (first <= ranks).all()
    assert (ranks < first + sizes).all()


def test_each_pass_over_a_stratum_has_every_row_once_in_its_own_order():
  drawn = [STRATIFIED(t) for t in range(84)]
  rows, epochs = (np.concatenate([batch[i] for batch in drawn]) for i in range(2))
  for row in range(103):
    epochs_of_row = epochs[rows == row]
    np.testing.assert_array_equal(epochs_of_row, np.arange(len(epochs_of_row)))
    assert len(epochs_of_row) in (12, 14)
  # The first row's batch within its pass changes.
  times = [t for t, batch in enumerate(drawn) if 0 in batch[0]]
  assert len(set(np.diff(times))) > 2


def test_stratified_batches_have_similar_numbers_of_tokens():
  spread = lambda draw: np.std([LENGTHS[draw(t)[0]].sum() for t in range(60)])
  assert spread(STRATIFIED) < spread(RANDOM) / 4


@pytest.mark.parametrize(("rows", "size"), [(3, 8), (8, 8), (9, 8), (5, 48), (1, 3)])
def test_sets_of_about_the_size_of_a_batch(rows, size):
  draw = order.stratified_rows(np.arange(rows), size, 0)
  for t in range(5):
    counts = np.bincount(draw(t)[0], minlength=rows)
    assert counts.max() <= -(-size // rows) + 1
    assert rows < size or counts.max() == 1
  assert len(order.stratified_rows(np.arange(rows), 0, 0)(3)[0]) == 0


def test_few_rows_are_drawn_equally_often():
  draw = order.stratified_rows(np.arange(20), 16, 0)
  visits = np.bincount(np.concatenate([draw(t)[0] for t in range(200)]))
  assert visits.max() < 1.2 * visits.min()


@pytest.mark.parametrize(("size", "parts"), [(27, 3), (30, 5), (18, 3)])
def test_other_numbers_of_parts_mix_short_and_long_texts(size, parts):
  shares = order.deal(size, 5).reshape(parts, -1)
  assert shares.min(1).max() < size / 2 < shares.max(1).min()


@pytest.mark.parametrize("size", [1, 6, 8, 16, 24, 48, 56, 192])
def test_dealing_balances_equal_parts(size):
  parts = [p for p in (2, 4, 8, 16) if size % (3 * p) == 0]
  for random in (0, 1, 12345, 2**63):
    dealt = order.deal(size, random)
    np.testing.assert_array_equal(np.sort(dealt), np.arange(size))
    for p in parts:  # the strata of a part are on average in the middle
      means = dealt.reshape(p, -1).mean(1)
      assert abs(means - (size - 1) / 2).max() < size / 6
  if size > 1:
    assert (order.deal(size, 0) != order.deal(size, 1)).any()


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "size"), [(30, 8), (3, 8)])
def test_random_batches_are_slices_of_shuffled_epochs(rows, size):
  batch = order.shuffled_rows(rows, size, 5)
  used = rows // size * size or rows  # rows used per epoch
  epochs = -(-9 * size // used)
  shuffled = iter(grain.MapDataset.range(rows).shuffle(seed=5).repeat())
  expected = [[next(shuffled) for _ in range(rows)][:used] for _ in range(epochs)]
  drawn = np.concatenate([batch(t)[0] for t in range(9)])
  np.testing.assert_array_equal(drawn, np.concatenate(expected)[: len(drawn)])
  epoch = np.concatenate([batch(t)[1] for t in range(9)])
  np.testing.assert_array_equal(epoch, np.arange(len(drawn)) // used)


@pytest.mark.parametrize("draw", [RANDOM, STRATIFIED])
def test_batches_are_cached_and_read_only(draw):
  first, again = draw(2), draw(2)
  assert all(a is b for a, b in zip(first, again, strict=True))
  with pytest.raises(ValueError, match="read-only"):
    first[0][0] = 7


def test_batches_depend_on_the_seed_and_t_alone():
  late = order.stratified_rows(LENGTHS, 16, 5)(70)
  for a, b in zip(STRATIFIED(70), late, strict=True):
    np.testing.assert_array_equal(a, b)
  assert (order.stratified_rows(LENGTHS, 16, 6)(70)[0] != late[0]).any()


def test_whole_and_fractional_lengths_are_ordered_alike():
  whole = np.random.default_rng(0).integers(1, 30, 500).astype(float)
  for lengths in (whole, whole + 70_000):
    draws = [order.stratified_rows(each, 20, 1) for each in (lengths, lengths / 3)]
    for t in (0, 7, 40):
      np.testing.assert_array_equal(draws[0](t)[0], draws[1](t)[0])
