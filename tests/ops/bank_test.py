"""The queue against a deque, and cosine similarity against its formula."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.ops import bank


@pytest.mark.parametrize(
  ("length", "n"), [(6, 2), (6, 6), (7, 3), (5, 4), (1, 1), (8, 1)]
)
def test_the_queue_holds_the_newest_rows(length, n):
  random = np.random.default_rng(0)
  state, newest = bank.queue_init(length, 3, 2), deque(maxlen=length)
  push = jax.jit(bank.queue_push)
  place = 0  # where the next row goes: in place of the oldest
  ring = [None] * length
  for _ in range(5 * length):
    feature = random.normal(size=(n, 3)).astype(np.float32)
    probability = random.dirichlet([1.0] * 2, size=n).astype(np.float32)
    state = push(state, jnp.asarray(feature), jnp.asarray(probability))
    for pair in zip(feature, probability, strict=True):
      newest.append(pair)
      ring[place] = pair
      place = (place + 1) % length

    filled = np.asarray(bank.queue_filled(state))
    np.testing.assert_array_equal(filled, [row is not None for row in ring])
    assert filled.sum() == len(newest)
    for k, row in enumerate(ring):
      expected = row or (np.zeros(3), np.zeros(2))
      np.testing.assert_array_equal(state.feature[k], expected[0])
      np.testing.assert_array_equal(state.probability[k], expected[1])
    # The filled slots hold what a list of that length would.
    here = {tuple(row) for row in np.asarray(state.feature)[filled].tolist()}
    assert here == {tuple(row.tolist()) for row, _ in newest}
    assert state.count < 2 * length  # it never overflows


def test_an_empty_queue_is_not_filled():
  state = bank.queue_init(4, 3, 2)
  assert not np.any(bank.queue_filled(state))
  assert not np.any(state.feature)
  assert state.count.dtype == jnp.int32


@pytest.mark.slow
def test_cosine_is_0_for_zeros():
  random = np.random.default_rng(0)
  a, b = random.normal(size=(2, 6, 3)).astype(np.float32)
  b[1], b[2], b[3] = 2 * a[1], -a[2], 0.0
  for row, other, result in zip(a, b, bank.cosine(a, b), strict=True):
    size = np.sqrt(sum(x * x for x in row) * sum(y * y for y in other))
    product = sum(x * y for x, y in zip(row, other, strict=True))
    expected = product / size if size else 0.0
    assert float(result) == pytest.approx(expected, rel=1e-5, abs=1e-6)
  gradient = jax.grad(lambda b: bank.cosine(a, b).sum())(jnp.asarray(b))
  assert np.all(np.isfinite(gradient))
  assert not np.any(gradient[3])
