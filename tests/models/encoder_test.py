"""Packing, padding, precision, recomputation, mixing: what torch has no word on."""

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
  """The texts of padded rows one after the other in one row, and the segments."""
  out = [np.zeros((1, width), np.int32) for _ in arrays]
  segment = np.zeros((1, width), np.int32)
  at = 0
  for i, length in enumerate(mask.sum(1)):
    for new, old in zip(out, arrays, strict=True):
      new[0, at : at + length] = old[i, :length]
    segment[0, at : at + length] = i + 1
    at += length
  return out, segment


@functools.cache
def padded_run(config):
  """Encoder, parameters, ids, mask, kind, and the hidden states of the padded rows."""
  encoder, params = make(config)
  ids, mask, kind = rows()
  return encoder, params, ids, mask, kind, run(encoder, params, ids, mask, kind)


@configs
def test_packed_equals_padded(config):
  encoder, params, ids, mask, kind, want = padded_run(config)
  (row, row_kind), segment = packed((ids, kind), mask, 33)
  got = run(encoder, params, row, segment, row_kind)
  assert np.abs(got[segment > 0] - want[mask > 0]).max() < 1e-5
  assert np.isfinite(got).all()


@configs
def test_padding_changes_nothing(config):
  encoder, params, ids, mask, kind, want = padded_run(config)
  assert want.dtype == np.float32
  more = ((0, 1), (0, 4))  # columns, and a row of padding alone
  ids, kind = np.where(mask > 0, ids, 7), np.where(mask > 0, kind, 1)
  wide = [np.pad(part, more) for part in (ids, mask.astype(bool), kind)]
  got = run(encoder, params, *wide)
  assert np.abs(got[:-1, :16][mask > 0] - want[mask > 0]).max() < 1e-5
  assert np.isfinite(got).all()


def test_padding_gradient_is_finite():
  encoder, params = make(EncoderConfig(**SMALL | V3))
  ids, mask = np.ones((2, 8), np.int32), np.zeros((2, 8), np.int32)
  loss = lambda params: encoder.apply({"params": params}, ids, mask).sum()
  for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params)):
    assert np.isfinite(leaf).all()


def test_positions_restart():
  segment = jnp.array([[1, 1, 2, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 1]])
  want = [[0, 1, 0, 1, 2, 0, 0], [0, 1, 2, 3, 4, 5, 6]]
  np.testing.assert_array_equal(positions(segment), want)


@configs
def test_embedding_in_place_of_ids(config):
  encoder, params, ids, mask, kind, want = padded_run(config)
  embedding = encoder.apply({"params": params}, ids, method="embed")
  assert embedding.shape == (*ids.shape, config.embedding_size)
  assert embedding.dtype == np.float32
  both = np.concatenate([embedding, embedding[:, ::-1]])  # as it is, and another
  twice = [np.concatenate([part, part]) for part in (0 * ids, mask, kind)]
  same, moved = np.split(run(encoder, params, *twice, both), 2)
  np.testing.assert_allclose(same, want, atol=1e-5)
  assert np.abs(moved - want)[mask > 0].max() > 0.1


@configs
def test_bfloat16_is_near(config):
  encoder, params, ids, mask, kind, want = padded_run(config)
  got = run(encoder.copy(dtype=jnp.bfloat16), params, ids, mask, kind)
  assert got.dtype == np.float32
  error = np.abs(got - want)[mask > 0]
  assert 0 < error.mean() < 0.03


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

  plain, again = jax.tree.leaves(step(False)), jax.tree.leaves(step(True))
  for one, other in zip(plain, again, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


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


def test_dropout_by_the_config_or_by_argument():
  config = EncoderConfig(**SMALL)
  encoder, params = make(config)
  ids, mask, _ = rows()
  still = run(encoder, params, ids, mask)

  def drop(encoder, seed):
    key = jax.random.key(seed, impl="rbg")
    return run(encoder, params, ids, mask, deterministic=False, rngs={"dropout": key})

  np.testing.assert_array_equal(drop(encoder.copy(dropout=0.0), 0), still)
  one, same, other = drop(encoder, 0), drop(encoder, 0), drop(encoder, 1)
  np.testing.assert_array_equal(one, same)
  assert np.abs(one - other).max() > 0.01
  assert np.abs(one - still).max() > 0.01


@pytest.mark.parametrize(
  ("case", "places"),
  [
    ({}, 4),  # embeddings; attention weights, attention output, layer output
    (V3, 5),  # and the relative embeddings
    (CASES["xlarge"], 6),  # and the convolution
    ({"hidden_dropout_prob": 0.0}, 1),
    ({"attention_probs_dropout_prob": 0.0}, 3),
  ],
)
def test_places_that_drop(case, places):
  encoder, params = make(EncoderConfig(**SMALL | case))
  ids, mask, _ = rows()

  def apply(params, key):
    options = {"deterministic": False, "rngs": {"dropout": key}}
    return encoder.apply({"params": params}, ids, mask, **options)

  key = jax.random.key(0, impl="rbg")
  program = str(jax.make_jaxpr(apply)(params, key))
  assert program.count("random_bits[") == places


def test_too_long_for_the_positions():
  encoder, params = make(EncoderConfig(**SMALL))
  ids = np.ones((1, 141), np.int32)
  with pytest.raises(UserError, match=r"141 tokens.*positions for 140"):
    encoder.apply({"params": params}, ids, ids)


@functools.cache
def mixer():
  """(ids, mask, mix) -> hidden states of a small BERT; layer and share are traced."""
  encoder, params = make(EncoderConfig(**SMALL))
  apply = lambda ids, mask, mix: encoder.apply({"params": params}, ids, mask, mix=mix)
  return jax.jit(apply), functools.partial(run, encoder, params)


def test_mixing_after_the_last_layer_mixes_what_comes_out():
  mixed, plain = mixer()
  ids, mask, _ = rows()
  partner, share = np.array([1, 0, 3, 2]), np.array([0.3, 0.6, 1, 0.5], np.float32)
  after = np.where(mask[..., None] > 0, plain(ids, mask), 0)  # padding as zeros
  by = share[:, None, None]
  want = by * after + (1 - by) * after[partner]
  np.testing.assert_allclose(mixed(ids, mask, (partner, share, 2)), want, atol=1e-5)
  both = (mask | mask[partner]) > 0
  for layer in (0, 1):
    got = mixed(ids, mask, (partner, share, layer))
    assert np.abs(got - want)[both].max() > 1e-2


def test_mixing_all_or_nothing():
  mixed, plain = mixer()
  ids, mask, _ = rows()
  full, partner = np.ones_like(mask), np.array([1, 0, 3, 2])
  want = plain(ids, full)
  for layer in (0, 1, 2):
    for share, order in ((1, np.arange(4)), (0, partner)):
      mix = (partner, np.full(4, share, np.float32), layer)
      np.testing.assert_allclose(mixed(ids, full, mix), want[order], atol=1e-5)


def test_mixing_reads_what_is_real_in_either():
  mixed, _ = mixer()
  ids, mask, _ = rows((4, 8, 1, 16))
  mix = (np.array([1, 0, 3, 2]), np.full(4, 0.5, np.float32), 0)
  got = mixed(ids, mask, mix)
  # Half of each: both rows are the same, and the short one is as long as the long.
  np.testing.assert_allclose(got[0, :8], got[1, :8], atol=1e-5)
  np.testing.assert_allclose(got[2], got[3], atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 7, 127, 128, 129, 300])
def test_by_distance_is_a_lookup(length):
  random = np.random.default_rng(0)
  x = random.standard_normal((2, 3, length, 4), np.float32)
  table = random.standard_normal((10, 3, 4), np.float32)
  lookup = lambda d: np.clip(d + 5, 0, 9)
  got = by_distance(jnp.asarray(x), jnp.asarray(table), lookup)
  near = np.arange(length)
  chosen = table[lookup(near[:, None] - near)]  # [L, L, H, d]
  want = np.einsum("nhid,ijhd->nhij", x, chosen)
  np.testing.assert_allclose(got, want, atol=1e-4)


def test_buckets():
  # By the formula: exact up to 4, then ceil(log(d / 4) / log(63 / 4) * 3) + 4.
  distance = np.array([-63, -16, -5, -4, 0, 3, 4, 5, 10, 11, 25, 26, 63])
  want = [-7, -6, -5, -4, 0, 3, 4, 5, 5, 6, 6, 7, 7]
  assert np.ceil(np.log(10 / 4) / np.log(63 / 4) * 3) == 1
  np.testing.assert_array_equal(buckets(distance, 8, 64), want)
