"""Batch t depends on (seed, t) alone, and its texts do not depend on the layout."""

import jax
import numpy as np
import pytest

from ssljax.batch import RowsOf, SecondCandidate
from ssljax.data.batches.loader import Layout, Loader, TrainSet, View, row_limit
from ssljax.data.batches.needed_rows import row_length_options
from ssljax.data.batches.tokenize import Tokens
from ssljax.errors import UserError

LABELLED, ROWS, B, U = 10, 30, 4, 8


def view(first, rows, candidates, seed, lengths=range(3, 40)):
  """A view in which candidate k of row i consists of tokens first + 10 i + k."""
  random = np.random.default_rng(seed)
  lengths = random.choice(lengths, size=rows * candidates)
  names = first + 10 * np.repeat(np.arange(rows), candidates)
  names += np.tile(np.arange(candidates), rows)
  offset = np.concatenate([[0], lengths.cumsum()])
  prompt = np.full(len(lengths), 2, np.int32)
  tokens = Tokens(
    np.repeat(names, lengths).astype(np.int32), offset, prompt, prompt < 0
  )
  return View(tokens, np.arange(rows + 1) * candidates)


DATA = TrainSet(
  {"weak": view(1000, LABELLED, 1, 0)},
  {"weak": view(2000, ROWS, 1, 1), "strong": view(3000, ROWS, 4, 2)},
  np.arange(LABELLED, dtype=np.int32) % 2,
  np.arange(ROWS, dtype=np.int32) % 3 - 1,
)


def make(
  seed=0,
  shards=1,
  micro=1,
  packed=True,
  data=DATA,
  batch=B,
  unlabelled=U,
  limit=40,
  costly=1000.0,
  stratified=True,
  groups=(),
):
  layout = Layout(shards, micro, limit, packed, costly)
  return Loader(
    data,
    batch=batch,
    unlabelled_batch=unlabelled,
    classes=2,
    seed=seed,
    steps=20,
    layout=layout,
    stratified=stratified,
    groups=groups,
  )


def read(texts):
  """(token, length) of every text in order; micro-batch, then shard, then text."""
  if texts.where.ndim == 3:
    parts = [jax.tree.map(lambda a, k=k: a[k], texts) for k in range(len(texts.where))]
    return [found for part in parts for found in read(part)]
  found = []
  for s, where in enumerate(texts.where):
    slots = [
      rows.ids[s, r][rows.segment[s, r] == k + 1]
      for rows in texts.rows
      for r in range(rows.ids.shape[1])
      for k in range(rows.first.shape[2])
    ]
    for place in where:
      assert len(set(slots[place])) == 1
      found.append((int(slots[place][0]), len(slots[place])))
  return found


def content(batch):
  batch = batch.with_shared_rows()
  return {
    (part, name): read(texts)
    for part, rows in (("labelled", batch.labelled), ("unlabelled", batch.unlabelled))
    for name, texts in rows.views.items()
  }


def equal(a, b):
  leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(np.array_equal(x, y) for x, y in leaves)


TOGETHER = ((("labelled", "weak"), ("unlabelled", "strong")), (("unlabelled", "weak"),))


@pytest.mark.parametrize(("shards", "micro"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)])
@pytest.mark.parametrize("layout", ["shared", "packed", "padded", "random"])
def test_the_layout_does_not_change_the_content(shards, micro, layout):
  packed, stratified = layout != "padded", layout != "random"
  plain = make(stratified=stratified)
  groups = TOGETHER if layout != "packed" else ()
  options = {"packed": packed, "stratified": stratified, "groups": groups}
  loader = make(shards=shards, micro=micro, **options)
  for t in range(6):
    batch, hidden = loader.batch(t)
    labelled, unlabelled = loader.order(t)
    assert content(batch) == content(plain.batch(t)[0])
    contents = content(batch)
    weak = [token for token, _ in contents["unlabelled", "weak"]]
    strong = [(token - 3000) // 10 for token, _ in contents["unlabelled", "strong"]]
    assert weak == [2000 + 10 * u for u in unlabelled]
    assert strong == list(unlabelled)
    assert [n for n, _ in contents["labelled", "weak"]] == [
      1000 + 10 * i for i in labelled
    ]
    np.testing.assert_array_equal(batch.labelled.label, np.eye(2)[labelled % 2])
    np.testing.assert_array_equal(batch.unlabelled.index, unlabelled)
    np.testing.assert_array_equal(hidden, unlabelled % 3 - 1)
    views = batch.labelled.views["weak"], batch.unlabelled.views["strong"]
    assert isinstance(views[1].rows, RowsOf) == (layout == "shared")
    assert not isinstance(views[0].rows, RowsOf)
    where = batch.unlabelled.views["weak"].where
    lead = (micro,) if micro > 1 else ()
    assert where.shape == (*lead, shards, U // shards // micro)
    if not packed:
      (rows,) = batch.unlabelled.views["weak"].rows
      assert rows.first.shape[-2:] == (U // shards // micro, 1)
      assert not rows.first.any()


def test_batches_depend_on_seed_and_step_alone():
  first, again, other = make(), make(), make(seed=1)
  late = again.batch(7)
  assert equal([first.batch(t) for t in range(8)][7], late)
  assert not np.array_equal(other.order(7)[1], first.order(7)[1])


@pytest.mark.slow
def test_consecutive_seeds_share_no_permutation():
  first = {}
  for seed in range(4):
    loader = make(seed=seed)
    for t in range(0, 12, ROWS // U):  # the first batch of each epoch
      rows = tuple(loader.order(t)[1])
      assert rows not in first, f"seed {seed}, step {t}: same as {first[rows]}"
      first[rows] = seed, t


@pytest.mark.parametrize("seed", [0, 3])
def test_an_epoch_repeats_no_row(seed):
  loader = make(seed=seed, stratified=False)
  for k, size, rows in ((0, B, LABELLED), (1, U, ROWS)):
    steps = rows // size
    for epoch in range(3):
      seen = [loader.order(epoch * steps + t)[k] for t in range(steps)]
      assert len(set(np.concatenate(seen))) == steps * size
      assert np.concatenate(seen).max() < rows


@pytest.mark.slow
def test_a_labelled_set_smaller_than_a_batch_repeats_evenly():
  loader = make(batch=16)
  counts = np.bincount(np.concatenate([loader.order(t)[0] for t in range(5)]))
  np.testing.assert_array_equal(counts, np.full(LABELLED, 8))


def test_candidates_depend_on_seed_epoch_and_row():
  strong = DATA.unlabelled["strong"]
  rows = np.arange(ROWS)
  draws = {
    (seed, epoch): strong.draw(seed, np.full(ROWS, epoch), rows) - 4 * rows
    for seed in range(3)
    for epoch in range(20)
  }
  counts = np.bincount(np.concatenate(list(draws.values())))
  assert len(counts) == 4
  assert np.all(abs(counts / counts.sum() - 0.25) < 0.04)
  assert len({drawn.tobytes() for drawn in draws.values()}) == len(draws)
  alone = strong.draw(2, np.array([5]), np.array([17])) - 4 * 17
  assert alone == draws[2, 5][17]


def shown_together(first, second):
  """Pairs of candidates that two views with the same four candidates show."""
  four = DATA.unlabelled["strong"]
  loader = make(data=DATA._replace(unlabelled={first: four, second: four}))
  pairs = set()
  for t in range(40):
    views = loader.batch(t)[0].unlabelled.views
    both = zip(read(views[first]), read(views[second]), strict=True)
    pairs |= {(one % 10, other % 10) for (one, _), (other, _) in both}
  return pairs


def test_views_with_the_same_candidates_draw_independently():
  assert len(shown_together("weak", "strong")) == 16


def test_a_second_strong_view_is_another_candidate():
  pairs = shown_together("strong", SecondCandidate("strong"))
  assert len(pairs) == 12
  assert all(first != second for first, second in pairs)
  # A row with one candidate shows it twice.
  single = DATA.unlabelled["strong"]._replace(begin=np.arange(9))
  np.testing.assert_array_equal(
    single.draw(5, np.zeros(8, int), np.arange(8), taken=7), np.arange(8)
  )


@pytest.mark.parametrize(("packed", "stratified"), [(1, 1), (1, 0), (0, 1)])
def test_a_run_has_few_shapes(packed, stratified):
  loader = make(packed=packed, stratified=stratified, shards=2)
  shapes = {str(jax.tree.map(np.shape, loader.batch(t)[0])) for t in range(20)}
  assert len(shapes) <= (2 if packed and stratified else 3)


def test_selected_shards_are_a_slice_of_all():
  loader = make(shards=4)
  whole, part = loader.batch(3)[0], loader.batch(3, shards=[1, 2])[0]
  for name in ("weak", "strong"):
    sliced = jax.tree.map(lambda a: a[1:3], whole.unlabelled.views[name])
    assert equal(sliced, part.unlabelled.views[name])
  np.testing.assert_array_equal(part.unlabelled.index, whole.unlabelled.index)
  np.testing.assert_array_equal(part.labelled.label, whole.labelled.label)


def test_iteration_can_start_at_any_step():
  loader = make(shards=2, micro=2)
  whole = list(loader.iterate(0, 9, range(2)))
  assert len(whole) == 9
  tail = list(make(shards=2, micro=2).iterate(4, 9, range(2)))
  assert equal(whole[4:], tail)
  assert equal(whole[6], loader.batch(6))


def test_invalid_batch_sizes():
  with pytest.raises(UserError, match="not divisible by 3 device shards"):
    make(shards=3)
  with pytest.raises(
    UserError, match="needs 64 unlabelled texts, but there are only 30"
  ):
    make(unlabelled=64)


def test_supervised_reads_no_unlabelled_text():
  loader = make(data=DATA._replace(unlabelled={}), unlabelled=0)
  batch, hidden = loader.batch(2)
  assert batch.unlabelled.views == {}
  assert batch.unlabelled.index.shape == hidden.shape == (0,)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("packed", [True, False])
def test_the_price_is_the_mean_cost_of_a_step(packed, shards):
  loader = make(packed=packed, shards=shards, costly=20.0, stratified=False)
  paid = 0.0
  for t in range(20):
    batch, _ = loader.batch(t)
    views = [*batch.labelled.views.values(), *batch.unlabelled.views.values()]
    for rows in (rows for texts in views for rows in texts.rows):
      _, count, length = rows.ids.shape  # of one shard
      paid += count * round(length * (1 + length / 20.0))
  assert loader.rows.choice.price == pytest.approx(paid / 20)


def test_in_random_order_attention_decides_the_row_lengths():
  def chosen(lengths, costly):
    labelled = view(1000, LABELLED, 1, 0, lengths)
    unlabelled = view(2000, ROWS, 1, 1, lengths)
    data = DATA._replace(labelled={"weak": labelled}, unlabelled={"weak": unlabelled})
    loader = make(data=data, limit=240, costly=costly, stratified=False)
    return loader.rows.row_lengths

  assert chosen([60] * 14 + [240], costly=1.0) == (128, 240)
  assert chosen([120], costly=1.0) == (128, 240)
  assert chosen([120], costly=1e9) == (240,)


def test_row_length_options():
  assert row_length_options(300) == [(300,), (128, 300), (256, 300)]
  assert row_length_options(200) == [(200,), (128, 200)]
  assert row_length_options(200, packed=False) == [(200,)]
  assert [row_limit(n, 300) for n in (3, 193, 500)] == [8, 200, 300]
