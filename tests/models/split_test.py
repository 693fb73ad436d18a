"""With split parameters, the encoder computes what it computes with whole ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import sharding
from ssljax.models import Encoder
from ssljax.models.config import EncoderConfig

BERT = EncoderConfig(
  vocab_size=64,
  hidden_size=32,
  num_hidden_layers=3,
  num_attention_heads=2,
  intermediate_size=64,
  max_position_embeddings=16,
)
DEBERTA = EncoderConfig(
  model_type="deberta-v2",
  vocab_size=64,
  hidden_size=32,
  num_hidden_layers=3,
  num_attention_heads=2,
  intermediate_size=64,
  relative_attention=True,
  pos_att_type=("c2p", "p2c"),
  position_buckets=8,
  position_biased_input=False,
  type_vocab_size=0,
  norm_rel_ebd="layer_norm",
)


IDS = np.random.default_rng(0).integers(5, 64, (8, 16)).astype(np.int32)
TARGET = np.random.default_rng(1).normal(size=(8, 16, 32)).astype(np.float32)


@pytest.fixture(autouse=True)
def small_parameters_are_split(monkeypatch):
  monkeypatch.setattr(sharding, "MIN_SHARDED_SIZE", 256)


def make(config, devices, **options):
  encoder = Encoder(config, dot=sharding.make_dot(devices), **options)
  return encoder, encoder.init(jax.random.key(0), IDS, IDS)["params"]


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("config", [BERT, DEBERTA], ids=["bert", "deberta"])
def test_loss_and_gradients_are_those_of_one_device(config, remat):
  def run(devices):
    encoder, params = make(config, devices, remat=remat, dropout=0.1, hashed=True)

    def loss(params, ids, target):
      rngs = {"dropout": jax.random.key(1)}
      out = encoder.apply({"params": params}, ids, ids, deterministic=False, rngs=rngs)
      return jnp.square(out - target).mean()

    params = sharding.put(params, sharding.state_shardings(params, devices))
    data = sharding.put_texts((IDS, TARGET), devices)
    return jax.jit(jax.value_and_grad(loss))(params, *data)

  one = run(sharding.make_devices(devices=jax.devices()[:1]))
  eight = run(sharding.make_devices(fsdp=8, devices=jax.devices()[:8]))
  for a, b in zip(*map(jax.tree.leaves, (one, eight)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_parameters_stay_in_float32():
  devices = sharding.make_devices(fsdp=8, devices=jax.devices()[:8])
  _, params = make(BERT, devices, dtype=jnp.dtype("bfloat16"))
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
