"""Unrolled layers compute what the loop over the layers computes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from ssljax import config as configuration
from ssljax.errors import UserError
from ssljax.models import Encoder
from ssljax.testing import tiny

CONFIG = dataclasses.replace(tiny.CONFIG, num_hidden_layers=3)


@pytest.mark.slow
@pytest.mark.parametrize("hashed", [False, True])
def test_states_and_gradients_are_equal(hashed):
  random = np.random.default_rng(0)
  ids = random.integers(5, tiny.VOCABULARY, (2, 16)).astype(np.int32)
  segment = np.repeat([[1, 2, 3, 0]], 4, axis=1).repeat(2, axis=0)
  segment = np.sort(segment)[:, ::-1]  # texts are contiguous
  key = jax.random.key(0, impl="rbg")
  params = Encoder(CONFIG).init(key, ids, segment)

  def run(unroll):
    encoder = Encoder(CONFIG, unroll=unroll, hashed=hashed)

    def total(params):
      rngs = {"dropout": key}
      states = encoder.apply(params, ids, segment, deterministic=False, rngs=rngs)
      return jnp.sum(jnp.sin(states)), states

    return jax.jit(jax.grad(total, has_aux=True))(params)

  for one, other in zip(*map(jax.tree.leaves, (run(1), run(3))), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_remat_needs_the_loop():
  config = base.get_config("fixmatch").to_dict() | {"data": "x", "remat": True}
  configuration.validate(config)
  with pytest.raises(UserError, match="recomputed layers"):
    configuration.validate(config | {"unroll": 2})
