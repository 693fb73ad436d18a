"""Random draws by row: the same at any position, different for each row."""

import jax
import numpy as np
import pytest

from ssljax.ops import draws


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_draws_depend_on_row_and_key_only(impl):
  key = jax.random.key(3, impl=impl)
  index = np.random.default_rng(0).permutation(500).astype(np.int32)
  drawn = np.asarray(draws.by_row(key, index, jax.random.uniform))
  sorted_ = np.asarray(draws.by_row(key, np.sort(index), jax.random.uniform))
  np.testing.assert_array_equal(drawn, sorted_[index])
  assert len(np.unique(drawn)) == 500
  assert abs(drawn.mean() - 0.5) < 4 / np.sqrt(12 * 500)
  alone = draws.by_row(key, index[7:8], jax.random.uniform)
  np.testing.assert_array_equal(alone, drawn[7:8])
  other = draws.by_row(jax.random.key(4, impl=impl), index, jax.random.uniform)
  assert not np.any(np.asarray(other) == drawn)


def test_draws_may_have_any_shape():
  key = jax.random.key(0)
  drawn = draws.by_row(key, np.arange(4), lambda key: jax.random.normal(key, (3, 2)))
  assert drawn.shape == (4, 3, 2)
  assert len(np.unique(drawn)) == 24
