"""Ramps against plain Python."""

import jax.numpy as jnp
import pytest

from ssljax.ops import ramps


@pytest.mark.parametrize("share", [0.0, 0.01, 0.4, 1.0])
@pytest.mark.parametrize("progress", [0.0, 0.005, 0.1, 0.4, 0.99, 1.0])
def test_the_ramp_is_linear_up_to_its_share(share, progress):
  expected = 1.0 if progress >= share else progress / share
  assert ramps.linear(jnp.float32(progress), share) == pytest.approx(expected)
