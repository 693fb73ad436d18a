"""FlexMatch's counts against a recount, and FreeMatch's averages."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.ops import thresholds


@pytest.mark.slow
def test_learned_counts_equal_a_recount():
  random = np.random.default_rng(0)
  state = thresholds.learned_init(Sizes(3, 1, 20, 1, 8))
  for _ in range(12):
    q = random.dirichlet([0.2] * 3, size=8).astype(np.float32)
    index = random.permutation(20)[:8]
    use = random.random(8) < 0.8
    before = np.asarray(state.label)
    state = thresholds.learned_update(
      state, jnp.asarray(index), jnp.asarray(q), 0.7, jnp.asarray(use)
    )
    label = np.asarray(state.label)
    for row, p, used in zip(index, q, use, strict=True):
      assert label[row] == (p.argmax() if used and p.max() >= 0.7 else before[row])
    recount = [(label == c).sum() for c in range(3)]
    np.testing.assert_array_equal(state.count, recount)
    status = np.array(recount) / max(*recount, (label < 0).sum())
    np.testing.assert_allclose(thresholds.learned_status(state), status, rtol=1e-6)


def test_the_adaptive_threshold_of_the_top_class_is_the_mean_confidence():
  state = thresholds.adaptive_init(Sizes(2, 1, 1, 1, 1))
  q = jnp.array([[0.9, 0.1], [0.7, 0.3]])
  state = thresholds.adaptive_update(state, q, 1.0)
  np.testing.assert_allclose(
    thresholds.adaptive_threshold(state), [0.8, 0.8 * 0.2 / 0.8], rtol=1e-6
  )
  np.testing.assert_array_equal(state.histogram, [1, 0])
