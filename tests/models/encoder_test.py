"""The encoder without torch: packing, padding, precision, remat, dropout, mixing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.errors import UserError
from ssljax.models import EncoderConfig
from ssljax.models.attention import buckets, by_distance
from ssljax.models.encoder import positions
from tests.models.small import CASES, SMALL, V3, configs, make, run

LENGTHS = (5, 12, 3, 9)


def rows(lengths=LENGTHS, width=16, seed=0):
  """Padded ids, mask and kind, i32 [n, width]."""
  random = np.random.default_rng(seed)
  ids = random.integers(1, 50, (len(lengths), width)).astype(np.int32)
  mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int32)
  kind = (np.arange(width) >= 2).astype(np.int32) * mask
  return ids, mask, kind


def packed(arrays, mask, width):
  """Packs the texts of padded rows into one row; returns the arrays and segments."""
  rows = [np.zeros((1, width), np.int32) for _ in arrays]
  segment = np.zeros((1, width), np.int32)
  begin = 0
  for i, length in enumerate(mask.sum(1)):
    for new, old in zip(rows, arrays, strict=True):
      new[0, begin : begin + length] = old[i, :length]
    segment[0, begin : begin + length] = i + 1
    begin += length
  return rows, segment


@functools.cache
def padded_run(config):
  """(encoder, params, ids, mask, kind, hidden states) of padded rows."""
  encoder, params = make(config)
  ids, mask, kind = rows()
  return encoder, params, ids, mask, kind, run(encoder, params, ids, mask, kind)


@pytest.mark.slow
@configs
def test_packed_rows_equal_padded_rows(config):
  encoder, params, ids, mask, kind, expected = padded_run(config)
  (row, row_kind), segment = packed((ids, kind), mask, 33)
  hidden = run(encoder, params, row, segment, row_kind)
  assert np.abs(hidden[segment > 0] - expected[mask > 0]).max() < 1e-5
  assert np.isfinite(hidden).all()


@configs
def test_padding_does_not_change_hidden_states(config):
  encoder, params, ids, mask, kind, expected = padded_run(config)
  assert expected.dtype == np.float32
  more = ((0, 1), (0, 4))  # columns, and a row of padding only
  ids, kind = np.where(mask > 0, ids, 7), np.where(mask > 0, kind, 1)
  wide = [np.pad(array, more) for array in (ids, mask.astype(bool), kind)]
  hidden = run(encoder, params, *wide)
  assert np.abs(hidden[:-1, :16][mask > 0] - expected[mask > 0]).max() < 1e-5
  assert np.isfinite(hidden).all()


@pytest.mark.slow
def test_the_gradient_of_padding_is_finite():
  encoder, params = make(EncoderConfig(**SMALL | V3))
  ids, mask = np.ones((2, 8), np.int32), np.zeros((2, 8), np.int32)
  loss = lambda params: encoder.apply({"params": params}, ids, mask).sum()
  for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params)):
    assert np.isfinite(leaf).all()


def test_positions_restart_with_each_text():
  segment = jnp.array([[1, 1, 2, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 1]])
  expected = [[0, 1, 0, 1, 2, 0, 0], [0, 1, 2, 3, 4, 5, 6]]
  np.testing.assert_array_equal(positions(segment), expected)


@configs
def test_embeddings_replace_ids(config):
  encoder, params, ids, mask, kind, expected = padded_run(config)
  embedding = encoder.apply({"params": params}, ids, method="embed")
  assert embedding.shape == (*ids.shape, config.embedding_size)
  assert embedding.dtype == np.float32
  both = np.concatenate([embedding, embedding[:, ::-1]])  # unchanged, and reversed
  twice = [np.concatenate([array, array]) for array in (0 * ids, mask, kind)]
  same, changed = np.split(run(encoder, params, *twice, both), 2)
  np.testing.assert_allclose(same, expected, atol=1e-5)
  assert np.abs(changed - expected)[mask > 0].max() > 0.1


@configs
def test_bfloat16_is_close_to_float32(config):
  encoder, params, ids, mask, kind, expected = padded_run(config)
  hidden = run(encoder.copy(dtype=jnp.bfloat16), params, ids, mask, kind)
  assert hidden.dtype == np.float32
  error = np.abs(hidden - expected)[mask > 0]
  assert 0 < error.mean() < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_remat_gives_the_same_gradient(dropout):
  ids, mask, _ = rows()
  options = {
    "deterministic": False,
    "rngs": {"dropout": jax.random.key(3, impl="rbg")},
  }

  def step(remat):
    encoder, params = make(EncoderConfig(**SMALL | V3), remat=remat, dropout=dropout)

    def loss(params):
      hidden = encoder.apply({"params": params}, ids, mask, **options)
      return jnp.square(hidden * mask[..., None]).mean()

    return jax.jit(jax.value_and_grad(loss))(params)

  plain, remat = jax.tree.leaves(step(False)), jax.tree.leaves(step(True))
  for a, b in zip(plain, remat, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_remat_saves_memory():
  ids = np.ones((8, 64), np.int32)

  def memory(remat):
    encoder, params = make(
      EncoderConfig(**SMALL | {"num_hidden_layers": 8}), remat=remat
    )
    loss = lambda params: encoder.apply({"params": params}, ids, ids).sum()
    compiled = jax.jit(jax.grad(loss)).lower(params).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert memory(True) < memory(False) / 2


@pytest.mark.slow
def test_the_dropout_rate_comes_from_the_config_or_the_argument():
  config = EncoderConfig(**SMALL)
  encoder, params = make(config)
  ids, mask, _ = rows()
  without = run(encoder, params, ids, mask)

  def drop(encoder, seed):
    key = jax.random.key(seed, impl="rbg")
    return run(encoder, params, ids, mask, deterministic=False, rngs={"dropout": key})

  np.testing.assert_array_equal(drop(encoder.copy(dropout=0.0), 0), without)
  one, same, other = drop(encoder, 0), drop(encoder, 0), drop(encoder, 1)
  np.testing.assert_array_equal(one, same)
  assert np.abs(one - other).max() > 0.01
  assert np.abs(one - without).max() > 0.01


@pytest.mark.parametrize(
  ("case", "count"),
  [
    ({}, 4),  # embeddings; attention weights, attention output, layer output
    (V3, 5),  # also the relative embeddings
    (CASES["xlarge"], 6),  # also the convolution
    ({"hidden_dropout_prob": 0.0}, 1),
    ({"attention_probs_dropout_prob": 0.0}, 3),
  ],
)
def test_dropout_draws_random_bits_once_per_use(case, count):
  encoder, params = make(EncoderConfig(**SMALL | case))
  ids, mask, _ = rows()

  def apply(params, key):
    options = {"deterministic": False, "rngs": {"dropout": key}}
    return encoder.apply({"params": params}, ids, mask, **options)

  key = jax.random.key(0, impl="rbg")
  program = str(jax.make_jaxpr(apply)(params, key))
  assert program.count("random_bits[") == count


def test_a_row_longer_than_the_position_embeddings_is_an_error():
  encoder, params = make(EncoderConfig(**SMALL))
  ids = np.ones((1, 141), np.int32)
  with pytest.raises(UserError, match=r"141 tokens.*positions for 140"):
    encoder.apply({"params": params}, ids, ids)


@functools.cache
def mixer():
  """(mixed, plain): functions that run a small BERT with and without mixing."""
  encoder, params = make(EncoderConfig(**SMALL))
  apply = lambda ids, mask, mix: encoder.apply({"params": params}, ids, mask, mix=mix)
  return jax.jit(apply), functools.partial(run, encoder, params)


@pytest.mark.slow
def test_mixing_after_the_last_layer_mixes_the_outputs():
  mixed, plain = mixer()
  ids, mask, _ = rows()
  partner, share = np.array([1, 0, 3, 2]), np.array([0.3, 0.6, 1, 0.5], np.float32)
  after = np.where(mask[..., None] > 0, plain(ids, mask), 0)  # padding as zeros
  weight = share[:, None, None]
  expected = weight * after + (1 - weight) * after[partner]
  np.testing.assert_allclose(mixed(ids, mask, (partner, share, 2)), expected, atol=1e-5)
  both = (mask | mask[partner]) > 0
  for layer in (0, 1):
    hidden = mixed(ids, mask, (partner, share, layer))
    assert np.abs(hidden - expected)[both].max() > 1e-2


def test_mixing_with_share_1_or_0_selects_a_row():
  mixed, plain = mixer()
  ids, mask, _ = rows()
  full, partner = np.ones_like(mask), np.array([1, 0, 3, 2])
  expected = plain(ids, full)
  for layer in (0, 1, 2):
    for share, order in ((1, np.arange(4)), (0, partner)):
      mix = (partner, np.full(4, share, np.float32), layer)
      np.testing.assert_allclose(mixed(ids, full, mix), expected[order], atol=1e-5)


def test_mixed_rows_attend_to_tokens_of_either_text():
  mixed, _ = mixer()
  ids, mask, _ = rows((4, 8, 1, 16))
  mix = (np.array([1, 0, 3, 2]), np.full(4, 0.5, np.float32), 0)
  hidden = mixed(ids, mask, mix)
  # With half of each, both rows are the same, and as long as the longer text.
  np.testing.assert_allclose(hidden[0, :8], hidden[1, :8], atol=1e-5)
  np.testing.assert_allclose(hidden[2], hidden[3], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 2, 7, 127, 128, 129, 300])
def test_by_distance_equals_a_lookup(length):
  random = np.random.default_rng(0)
  x = random.standard_normal((2, 3, length, 4), np.float32)
  table = random.standard_normal((10, 3, 4), np.float32)
  lookup = lambda d: np.clip(d + 5, 0, 9)
  scores = by_distance(jnp.asarray(x), jnp.asarray(table), lookup)
  index = np.arange(length)
  chosen = table[lookup(index[:, None] - index)]  # [L, L, H, d]
  expected = np.einsum("nhid,ijhd->nhij", x, chosen)
  np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_buckets():
  # By the formula: exact up to 4, then ceil(log(d / 4) / log(63 / 4) * 3) + 4.
  distance = np.array([-63, -16, -5, -4, 0, 3, 4, 5, 10, 11, 25, 26, 63])
  expected = [-7, -6, -5, -4, 0, 3, 4, 5, 5, 6, 6, 7, 7]
  assert np.ceil(np.log(10 / 4) / np.log(63 / 4) * 3) == 1
  np.testing.assert_array_equal(buckets(distance, 8, 64), expected)
