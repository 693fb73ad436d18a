"""Pseudo-margins and their averages, on examples."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.ops import margins


@pytest.mark.parametrize(
  ("logits", "expected"),
  [
    ([3.0, 1.0, -2.0], [2, -2, -5]),
    ([-4.0, -6.0, -7.0], [2, -2, -3]),  # all below 0: the runner-up is -6, not 0
    ([1.0, 1.0, 0.0], [0, 0, -1]),
    ([0.0, 0.0], [0, 0]),
  ],
)
def test_pseudo_margin(logits, expected):
  np.testing.assert_allclose(margins.pseudo_margin(jnp.array(logits)), expected)


def test_with_smoothness_one_the_average_is_the_mean():
  values = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
  average = jnp.zeros((2, 3))
  for visit, value in enumerate(values):
    average = margins.averaged(average, value, jnp.full(2, visit), 1.0)
  np.testing.assert_allclose(average, values.mean(0), atol=1e-6)
