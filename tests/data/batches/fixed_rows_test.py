"""Texts fit into given rows, and the rows cost little."""

import numpy as np
import pytest

from ssljax.data.batches import fixed_rows, order

POOL = np.minimum(np.random.default_rng(0).lognormal(4, 1, 3000).round() + 3, 512)
POOL = POOL.astype(np.int64)


def draw_steps(count, size, parts=1, lengths=POOL, stratified=True):
  """i64 [count, parts, size / parts], the lengths of the texts of each step."""
  draw = (
    order.stratified_rows(lengths.astype(float), size, 1)
    if stratified
    else order.shuffled_rows(len(lengths), size, 1)
  )
  return np.stack([lengths[draw(t)[0]].reshape(parts, -1) for t in range(count)])


def fit_one_by_one(lengths, rows):
  """The same rule, text by text: (row, start, slot) of each text; None if one fails."""
  free = list(rows)
  texts = [[] for _ in rows]
  places = {}
  for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    room = [
      (free[r], r)
      for r in range(len(rows))
      if free[r] >= lengths[i] and len(texts[r]) < max(1, rows[r] // 8)
    ]
    if not room:
      return None
    r = min(room)[1]
    places[i] = r, rows[r] - free[r], len(texts[r])
    free[r] -= lengths[i]
    texts[r].append(i)
  return [places[i] for i in range(len(lengths))]


@pytest.mark.parametrize("seed", range(6))
def test_best_fit(seed):
  random = np.random.default_rng(seed)
  lengths = random.integers(1, 40, (40, 12))
  rows = tuple(sorted(random.choice([16, 40, 64], 7).tolist()))
  fitted = fixed_rows.fit(lengths, rows)
  expected = [fit_one_by_one(part.tolist(), rows) for part in lengths]
  assert fitted.fits.tolist() == [places is not None for places in expected]
  assert (
    fixed_rows._Sample(lengths[:, None]).fits(rows).tolist() == fitted.fits.tolist()
  )
  for p in np.flatnonzero(fitted.fits):
    found = zip(fitted.row[p], fitted.start[p], fitted.slot[p], strict=True)
    assert [tuple(map(int, place)) for place in found] == expected[p]


def prices(steps=1000, row=lambda length: length * (1 + length / 1000), limit=512):
  return fixed_rows.Prices(row, row(limit), fixed_rows.COMPILATION / steps)


PRICE = prices().row


@pytest.mark.parametrize(("parts", "size"), [(1, 48), (1, 16), (4, 64)])
def test_nearly_all_steps_fit_and_rows_are_full(parts, size):
  lengths = draw_steps(100, size, parts)
  rows = fixed_rows.choose_rows(lengths, 512, prices())
  assert len(set(rows)) <= 3
  assert list(rows) == sorted(rows)
  later = draw_steps(200, size, parts)[100:].reshape(-1, size // parts)
  fits = fixed_rows.fit(later, rows).fits.reshape(100, parts).all(1)
  assert fits.mean() > 0.75
  share = later.sum() / (len(later) * sum(rows))
  assert share > (0.93 if parts == 1 and size == 48 else 0.8)
  enough = fixed_rows.enough_rows(rows, lengths, 512)
  assert fixed_rows.fit(lengths.reshape(-1, size // parts), enough).fits.all()
  assert set(enough) - set(rows) <= {512}
  overflow = fixed_rows.choose_overflow(rows, lengths, 512, prices())
  parts = lengths.reshape(-1, size // parts)
  share = lambda rows: fixed_rows.fit(parts, rows).fits.mean()
  assert share(overflow) >= share(rows)
  assert sum(overflow) <= sum(enough)


def test_the_rows_cost_less_than_those_of_one_length():
  lengths = draw_steps(60, 48)
  rows = fixed_rows.choose_rows(lengths, 512, prices())
  least = int(np.ceil(np.median(lengths.sum(2)) / 512))
  assert sum(map(PRICE, rows)) < 0.95 * least * PRICE(512)


def test_short_rows_are_chosen_if_attention_is_expensive():
  lengths = draw_steps(60, 48, lengths=np.array([40] * 900 + [400] * 100))
  cheap = fixed_rows.choose_rows(lengths, 400, prices(row=lambda n: n))
  dear = fixed_rows.choose_rows(lengths, 400, prices(row=lambda n: n**2))
  assert np.mean(dear) < np.mean(cheap)
  assert max(dear) == 400


def test_a_short_run_compiles_one_shape():
  lengths = draw_steps(40, 48)
  rows = fixed_rows.choose_rows(lengths, 512, prices(40))
  assert fixed_rows.enough_rows(rows, lengths, 512) == rows
  longer = fixed_rows.choose_rows(lengths, 512, prices(100_000))
  assert sum(longer) <= sum(rows)


def test_steps_that_do_not_fit_get_more_rows():
  step = lambda lengths: [[[np.array(lengths)]]]
  planner = fixed_rows.FixedRows([step([8, 8, 16])] * 10, 10, 32, PRICE)
  assert planner.row_lengths[-1] == 32
  (planned,), overflows = planner.plan(step([8, 16, 8]))
  assert not overflows
  (larger,), overflows = planner.plan(step([32, 32, 32]))
  assert overflows
  tokens = lambda planned: sum(length * rows for length, rows in planned.shape)
  assert tokens(larger) >= 96 > tokens(planned)


def test_texts_of_a_few_tokens_fill_the_slots_first():
  lengths = draw_steps(40, 48, lengths=np.array([3, 4, 5] * 400))
  rows = fixed_rows.choose_rows(lengths, 64, prices(limit=64))
  assert fixed_rows.fit(lengths.reshape(40, 48), rows).fits.mean() >= 0.9
