"""Pairs and shares for mixing depend on the rows only."""

import jax
import numpy as np
import pytest

from ssljax.ops import mixing

KEY = jax.random.key(0)


def rows(*counts):
  return [np.arange(n, dtype=np.int32) * 3 for n in counts]


@pytest.mark.slow
def test_partners_form_a_circle_and_own_shares_are_larger():
  partner, share = mixing.pairs(KEY, rows(5, 12, 12), 0.5)
  at, seen = 0, []
  for _ in range(29):
    seen.append(at)
    at = int(partner[at])
  assert (at, sorted(seen)) == (0, list(range(29)))
  assert (share >= 0.5).all()
  assert (share <= 1).all()


@pytest.mark.slow
def test_repeated_rows_get_different_draws():
  index = np.array([0, 1, 0, 1, 0, 1], np.int32)
  divergence = 0
  for seed in range(20):
    partner, share = mixing.pairs(jax.random.key(seed), [index], 0.75)
    assert len({*share.tolist()}) == 6
    divergence += sum(index[i] != index[int(p)] for i, p in enumerate(partner))
  assert 50 < divergence < 100  # 3 / 5 of 120 by chance


@pytest.mark.slow
def test_shares_follow_the_beta_distribution():
  _, share = mixing.pairs(KEY, rows(4000), 0.75)
  # Beta(a, a) has variance 1 / (4 (2 a + 1)); its larger side as far from a half.
  assert np.isclose(np.mean((share - 0.5) ** 2), 1 / (4 * 2.5), rtol=0.05)


@pytest.mark.slow
def test_an_alpha_of_0_mixes_nothing():
  _, share = mixing.pairs(KEY, rows(9), 0.0)
  np.testing.assert_array_equal(share, np.ones(9))


@pytest.mark.slow
def test_the_order_of_the_texts_makes_no_difference():
  index = rows(20)[0]
  order = np.random.default_rng(0).permutation(20)
  for impl in ("threefry2x32", "rbg"):
    key = jax.random.key(3, impl=impl)
    partner, share = mixing.pairs(key, [index], 0.5)
    moved, same = mixing.pairs(key, [index[order]], 0.5)
    np.testing.assert_array_equal(np.asarray(share)[order], same)
    np.testing.assert_array_equal(
      index[np.asarray(partner)][order], index[order][moved]
    )


def test_views_of_a_row_get_different_draws():
  _, share = mixing.pairs(KEY, [rows(10)[0]] * 2, 0.5)
  assert not np.isclose(share[:10], share[10:]).any()


def test_a_mixture_is_linear():
  values = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
  partner, share = np.array([2, 0, 3, 1]), np.array([1, 0.5, 0.75, 0], np.float32)
  result = mixing.mixed(values, partner, share)
  for i in range(4):
    expected = share[i] * values[i] + (1 - share[i]) * values[partner[i]]
    np.testing.assert_allclose(result[i], expected, rtol=1e-6)
