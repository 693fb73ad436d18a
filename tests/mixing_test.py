"""Mixing the hidden states of two texts, at any layer and on several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models.forward import ModelForward
from tests.passes import (
  KEY,
  LAYERS,
  LIMIT,
  LONGEST,
  assert_alike,
  build_model,
  jit,
  on_two_devices,
  plain,
  texts,
)


@functools.cache
def mixer(head: str):
  """A compiled `mix(a, b, share, layer)`."""
  model, params, _ = build_model(head)
  forward = ModelForward(model, params)
  return jit(lambda a, b, share, layer: forward.mix(a, b, share, layer, KEY))


def mixed(head, a, b, share, layer):
  return mixer(head)(a, np.array(b, np.int32), np.float32(share), np.int32(layer))


heads = pytest.mark.parametrize("head", ["mlp", "hf"])
layers = pytest.mark.parametrize("layer", [0, 1, LAYERS])
# The texts are sorted by length, the longest first: partners by relative length.
SHORTER, LONGER = [1, 2, 3, 4, 5, 5], [0, 0, 1, 2, 3, 4]


@pytest.mark.slow
@heads
@layers
def test_a_share_of_1_gives_the_text(head, layer):
  a = texts(1, packed=False)
  shares = 1.0 if layer else np.ones(6, np.float32)
  # With shorter partners, the tokens of either text are those of the text itself.
  assert_alike(mixed(head, a, SHORTER, shares, layer), plain(head)(a))


@heads
@layers
def test_a_share_of_0_gives_the_partner(head, layer):
  a = texts(1, packed=False)
  expected = jax.tree.map(lambda leaf: leaf[np.array(LONGER)], plain(head)(a))
  assert_alike(mixed(head, a, LONGER, np.zeros(6) if layer else 0.0, layer), expected)


@heads
@layers
def test_mixing_is_symmetric(head, layer):
  """For texts of different lengths as well: the tokens of both are used."""
  a = texts(1, packed=False)
  pairs = np.array([5, 3, 4, 1, 2, 0])
  share = np.array([0.9, 0.3, 0.6, 0.7, 0.4, 0.1], np.float32)
  result = mixed(head, a, pairs, share, layer)
  assert_alike(result, jax.tree.map(lambda leaf: leaf[pairs], result))
  assert np.abs(result.logits - plain(head)(a).logits).max() > 0.01


@heads
def test_mixing_after_the_last_layer_is_before_pooling(head):
  model, params, _ = build_model(head)
  a = texts(1, packed=False)
  (rows,) = jax.tree.map(lambda leaf: leaf[0], a.rows)
  encode = jit(
    lambda ids, mask: model.encoder.apply({"params": params["encoder"]}, ids, mask)
  )
  hidden = np.asarray(encode(rows.ids, rows.segment))
  hidden = np.where(rows.segment[..., None] > 0, hidden, 0)
  pairs = np.array([1, 2, 0, 3, 5, 4])
  share = np.linspace(0.1, 0.9, 6, dtype=np.float32)
  blend = share[:, None, None] * hidden + (1 - share)[:, None, None] * hidden[pairs]
  result = mixed(head, a, pairs, share, LAYERS)
  if head == "mlp":
    real = np.maximum(rows.segment, rows.segment[pairs])[..., None]
    expected = (blend * real).sum(1) / real.sum(1)
  else:
    pooler = params["pooler"]
    expected = np.tanh(blend[:, 0] @ pooler["kernel"] + pooler["bias"])
  assert np.abs(result.features - expected).max() < LIMIT


@heads
def test_padding_makes_no_difference(head):
  a = texts(1, packed=False, lengths=[16, 16, 9, 9, 7, 4])
  (rows,) = a.rows
  pairs = np.array([1, 3, 0, 2, 5, 4])  # padding in both texts, or in one
  noise = np.random.default_rng(2).integers(5, 99, rows.ids.shape).astype(np.int32)
  other = a._replace(
    rows=(rows._replace(ids=np.where(rows.segment > 0, rows.ids, noise)),)
  )
  for layer in (0, LAYERS):
    assert_alike(
      mixed(head, a, pairs, 0.4, layer), mixed(head, other, pairs, 0.4, layer)
    )


@pytest.mark.slow
@heads
@layers
def test_the_length_of_the_rows_makes_no_difference(head, layer):
  a = texts(1, packed=False)
  (rows,) = a.rows
  wider = lambda leaf: np.pad(leaf, ((0, 0), (0, 0), (0, 8)))
  longer = rows._replace(
    ids=wider(rows.ids), segment=wider(rows.segment), kind=wider(rows.kind)
  )
  assert_alike(
    mixed(head, a, LONGER, 0.4, layer),
    mixed(head, a._replace(rows=(longer,)), LONGER, 0.4, layer),
  )


@pytest.mark.slow
def test_mixing_has_dropout_and_gradients():
  model, params, _ = build_model(dropout=0.5)
  a = texts(1, packed=False)

  def run(params, key):
    result = ModelForward(model, params).mix(
      a, np.array(SHORTER), np.float32(0.5), np.int32(1), key
    )
    return (result.logits**2).sum(), result.logits

  take = jit(jax.grad(run, has_aux=True))
  gradient, first = take(params, KEY)
  assert np.abs(first - take(params, jax.random.fold_in(KEY, 1))[1]).max() > 0.01
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
  assert np.abs(gradient["encoder"]["embeddings"]["word"]["embedding"]).max() > 0


def test_mixing_refuses_packed_rows_and_micro_batches():
  model, params, _ = build_model()
  arguments = (np.zeros(6, np.int32), 0.5, 0, KEY)
  padded, packed = texts(1, packed=False), texts(1)
  two = padded._replace(rows=padded.rows * 2)
  for forward, given in (
    (ModelForward(model, params), packed),
    (ModelForward(model, params), two),
    (ModelForward(model, params, micro=True), padded),
  ):
    with pytest.raises(ValueError, match=r"layout='padded'.* no gradient acc"):
      forward.mix(given, *arguments)


@pytest.mark.slow
def test_partners_may_be_on_other_devices_under_pmap():
  model, params, _ = build_model()
  forward = ModelForward(model, params, axis="data")
  a, pairs = texts(1, packed=False, shards=2), np.array([5, 3, 4, 1, 2, 0])
  result = on_two_devices(lambda a: forward.mix(a, pairs, 0.3, jnp.int32(1), KEY), a)
  assert_alike(result, mixed("mlp", texts(1, packed=False), pairs, 0.3, 1))


def test_mixing_keeps_the_order_of_the_texts():
  # Padded rows are sorted by length, so their order differs from that of the texts.
  a = texts(1, packed=False, lengths=[3, 16, 9, LONGEST, 7, 4])
  assert (a.where[0] != np.arange(6)).any()
  result = mixed("mlp", a, np.arange(6), 1.0, 1)  # each text is its own partner
  np.testing.assert_allclose(result.logits, plain("mlp")(a).logits, atol=1e-5)


def test_partners_are_texts_not_rows():
  a = texts(1, packed=False, lengths=[3, 16, 9, LONGEST, 7, 4])
  partner = np.array([1, 3, 3, 3, 3, 3])  # not shorter than the text
  result = mixed("mlp", a, partner, 0.0, 1)
  np.testing.assert_allclose(result.logits, plain("mlp")(a).logits[partner], atol=1e-5)


def together(*views):
  """Joins padded views with one shard to one view."""
  rows = jax.tree.map(
    lambda *leaves: np.concatenate(leaves, axis=1), *(view.rows[0] for view in views)
  )
  begin = np.cumsum([0, *(view.rows[0].ids.shape[1] for view in views[:-1])])
  where = [view.where + first for view, first in zip(views, begin, strict=True)]
  return views[0]._replace(rows=(rows,), where=np.concatenate(where, axis=1))


@pytest.mark.slow
@heads
@layers
def test_several_views_are_mixed_like_one_joined_view(head, layer):
  some = texts(1, packed=False, lengths=[3, 16, 9, LONGEST, 7, 4])
  others = texts(2, packed=False)
  model, params, _ = build_model(head)
  random = np.random.default_rng(0)
  partner = random.permutation(18).astype(np.int32)
  share = random.uniform(size=18).astype(np.float32)
  views = (some, others, some)
  assert ((partner < 6) != (np.arange(18) < 6)).any()  # some are of another view
  forward = ModelForward(model, params)
  run = jit(lambda views, layer: forward.mix(views, partner, share, layer, KEY))
  result = run(views, np.int32(layer))
  assert_alike(result, run((together(*views),), np.int32(layer)))
  assert result.logits.shape[0] == 18


@pytest.mark.slow
@heads
def test_a_share_of_1_gives_the_outputs_of_each_view(head):
  """In the order of the views and their texts."""
  some = texts(1, packed=False, lengths=[3, 16, 9, LONGEST, 7, 4])
  others = texts(2, packed=False)
  result = mixer(head)((some, others), np.arange(12), np.float32(1.0), np.int32(1))
  expected = [plain(head)(view).logits for view in (some, others)]
  assert np.abs(result.logits - np.concatenate(expected)).max() < LIMIT
