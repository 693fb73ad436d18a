"""Packs texts into rows without overlaps or losses."""

import numpy as np
import pytest

from ssljax.data.batches import pack

LENGTHS = (32, 128)


def texts(random, count, longest=128):
  """Texts of random length with distinct ids, and the lengths of their prompts."""
  lengths = np.minimum(random.geometric(0.03, size=count) + 2, longest)
  ids = np.split(np.arange(1, lengths.sum() + 1, dtype=np.int32), lengths.cumsum()[:-1])
  return [(t, int(random.integers(1, len(t) + 1))) for t in ids]


def planned(shard, packed=True):
  lengths = LENGTHS if packed else (128,)
  return pack.plan_rows(np.array([len(ids) for ids, _ in shard]), lengths, packed)


def read(laid, s, i):
  """Ids and token types of text i of shard s, located with `where` alone."""
  place = laid.where[s, i]
  for rows in laid.rows:
    _, count, slots = rows.first.shape
    if place < count * slots:
      r, k = divmod(place, slots)
      inside = rows.segment[s, r] == k + 1
      assert rows.first[s, r, k] == inside.argmax()
      assert np.diff(np.flatnonzero(inside)).max(initial=1) == 1  # contiguous
      return rows.ids[s, r][inside], rows.kind[s, r][inside]
    place -= count * slots
  raise AssertionError("no such slot")


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("more", [0, 2])
def test_every_token_is_where_it_should_be(seed, packed, more):
  random = np.random.default_rng(seed)
  shards = [texts(random, 12) for _ in range(3)]
  plans = [planned(shard, packed) for shard in shards]
  most = np.max([p.rows for p in plans], axis=0)
  lengths = LENGTHS if packed else (128,)
  shape = [
    (length, int(rows) + more) for length, rows in zip(lengths, most, strict=True)
  ]
  laid = pack.fill_rows(plans, shards, shape, packed)
  for s, shard in enumerate(shards):
    assert len(set(laid.where[s])) == len(shard)
    for i, (ids, prompt) in enumerate(shard):
      text_ids, kind = read(laid, s, i)
      np.testing.assert_array_equal(text_ids, ids)
      np.testing.assert_array_equal(kind, np.arange(len(ids)) >= prompt)
    tokens = sum(int((rows.segment[s] > 0).sum()) for rows in laid.rows)
    assert tokens == sum(len(ids) for ids, _ in shard)  # nothing else
    assert all(np.all(rows.ids[s][rows.segment[s] == 0] == 0) for rows in laid.rows)
  assert [rows.ids.shape[:0:-1] for rows in laid.rows] == shape


@pytest.mark.parametrize("seed", range(8))
def test_plans_respect_rows_and_slots(seed):
  shard = texts(np.random.default_rng(seed), 40)
  lengths = np.array([len(ids) for ids, _ in shard])
  plan = planned(shard)
  assert plan.longest == lengths.max()
  for g, limit in enumerate(LENGTHS):
    assert len(set(plan.row[plan.group == g])) == plan.rows[g]
    for r in range(plan.rows[g]):
      inside = np.flatnonzero((plan.group == g) & (plan.row == r))
      assert sorted(plan.slot[inside]) == list(range(len(inside)))
      assert len(inside) <= pack.slots_per_row(limit, True)
      order = inside[plan.start[inside].argsort()]
      ends = plan.start[order] + lengths[order]
      assert np.all(plan.start[order][1:] >= ends[:-1])
      assert ends[-1] <= limit


def test_many_tiny_texts_run_out_of_slots_before_tokens():
  plan = pack.plan_rows(np.full(9, 2), (32,))
  assert plan.rows == (3,)  # four slots a row


def test_no_texts_need_no_rows():
  plan = pack.plan_rows(np.zeros(0, int), LENGTHS)
  assert (plan.rows, plan.longest) == ((0, 0), 0)


def test_there_are_few_shapes_and_the_last_serves_all():
  need = np.random.default_rng(0).integers(1, 9, size=(200, 4))
  cost = np.array([32.0, 128, 32, 128])
  shapes = pack.choose_shapes(need, cost, 3)
  assert 1 <= len(shapes) <= 3
  assert np.all(shapes[-1] >= need)
  for row in need:
    chosen = pack.cheapest_shape(shapes, row, cost)
    assert np.all(chosen >= row)
    assert any(np.array_equal(chosen, shape) for shape in shapes)
    fitting = [shape @ cost for shape in shapes if np.all(shape >= row)]
    assert chosen @ cost == min(fitting)
  beyond = pack.cheapest_shape(shapes, np.array([99, 1, 1, 1]), cost)
  assert beyond[0] == 99
  assert np.all(beyond[1:] >= shapes[-1][1:])


def test_shapes_that_save_little_are_merged():
  cost = np.array([64.0, 64.0])
  alike = np.array([[23, 8], [24, 8]] * 50)
  assert pack.choose_shapes(alike, cost, 3).tolist() == [[24, 8]]
  apart = np.array([[10, 8], [24, 8]] * 50)
  assert pack.choose_shapes(apart, cost, 3).tolist() == [[10, 8], [24, 8]]
