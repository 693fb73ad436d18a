"""Attention kernels, interpreted on the CPU, against plain attention."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ssljax.errors import UserError
from ssljax.models import EncoderConfig, attention_kernel
from ssljax.models.attention import SelfAttention
from ssljax.models.attention_kernel import Kernel, choose
from ssljax.sharding import make_devices
from tests.models.small import SMALL, V3, make

BERT = EncoderConfig(**SMALL | {"hidden_size": 32, "num_attention_heads": 2})
# 136 is no multiple of a block. The second text of the first row crosses the borders
# at 32, 64 and 128; the second row is half padding; the third has only padding.
LENGTHS = ((20, 110, 6), (3, 60), ())
KEY = jax.random.key(0, impl="rbg")
platforms = pytest.mark.parametrize("platform", ["gpu", "tpu"])


def attention_and_gradient(kernel):
  """Attention of the texts, [tokens, D], and gradients of a random function of it."""
  random = np.random.default_rng(0)
  segment = np.zeros((len(LENGTHS), 136), np.int32)
  for row, texts in zip(segment, LENGTHS, strict=True):
    row[: sum(texts)] = np.repeat(np.arange(len(texts)) + 1, texts)
  draw = lambda *shape: random.standard_normal(shape, np.float32)
  x, weight = draw(*segment.shape, 32), draw(*segment.shape, 32)
  names = ("query", "key", "value")
  params = {name: {"kernel": 0.2 * draw(32, 32), "bias": draw(32)} for name in names}
  module = SelfAttention(BERT, nn.Dense, kernel)

  def loss(params, x):
    y = module.apply({"params": params}, x, segment, None, (0.1, 0.1), (None, None))
    return (y * weight * (segment > 0)[..., None]).sum(), y

  value_and_grad = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
  (_, y), gradient = jax.jit(value_and_grad)(params, x)
  return np.asarray(y)[segment > 0], jax.tree.leaves(gradient)


plain = functools.cache(lambda: attention_and_gradient(None))


@platforms
def test_a_kernel_computes_what_plain_attention_computes(platform):
  y, gradient = attention_and_gradient(Kernel(platform, interpret=True))
  expected, expected_gradient = plain()
  np.testing.assert_allclose(y, expected, atol=1e-5)
  # The gradient of the keys' bias is 0 but for rounding, so all have one tolerance.
  atol = 1e-6 * max(np.abs(b).max() for b in expected_gradient)
  for a, b in zip(gradient, expected_gradient, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=atol)


@platforms
def test_bfloat16_is_close_to_float32(platform):
  q, k, v = np.random.default_rng(0).standard_normal((3, 1, 24, 2, 32), np.float32)
  segment = np.arange(24, dtype=np.int32)[None] // 9
  kernel = jax.jit(Kernel(platform, interpret=True))
  exact = kernel(q, k, v, segment)
  rounded = kernel(*(jnp.asarray(a, jnp.bfloat16) for a in (q, k, v)), segment)
  assert rounded.dtype == jnp.bfloat16
  assert 0 < np.abs(rounded - exact).max() < 0.03


def test_each_device_computes_its_own_rows():
  devices = make_devices()
  random = np.random.default_rng(0)
  q, k, v = random.standard_normal((3, 8, 16, 1, 16), np.float32)
  segment = random.integers(0, 3, (8, 1)) + np.arange(16) // 6
  arrays = q, k, v, segment.astype(np.int32)
  expected = Kernel("gpu", interpret=True)(*arrays)
  kernel = jax.jit(Kernel("gpu", devices.mesh, interpret=True))
  split = NamedSharding(devices.mesh, P(("data", "fsdp")))
  program = kernel.lower(*jax.device_put(arrays, split)).compile()
  assert "all-gather" not in program.as_text()
  np.testing.assert_array_equal(program(*jax.device_put(arrays, split)), expected)
  everywhere = [np.stack([a] * 8) for a in arrays]
  for result in jax.pmap(kernel)(*everywhere):
    np.testing.assert_array_equal(result, expected)
  three = [a[:3] for a in arrays]  # can't be split among 8 devices
  np.testing.assert_array_equal(kernel(*three), expected[:3])


def test_passes_with_dropout_or_relative_positions_or_embeddings_are_plain():
  ids = segment = np.ones((1, 16), np.int32)
  bert, deberta = make(BERT), make(EncoderConfig(**SMALL | V3))

  def kernels(model=bert, dropout=0.1, deterministic=True, embedding=None):
    encoder, params = model[0].copy(dropout=dropout, kernel=Kernel("gpu")), model[1]
    options = {"deterministic": deterministic, "rngs": {"dropout": KEY}}
    apply = lambda embedding: encoder.apply(
      {"params": params}, ids, segment, embedding=embedding, **options
    )
    return str(jax.make_jaxpr(apply)(embedding)).count("pallas_call[")

  assert kernels() == kernels(dropout=0.0, deterministic=False) == 1
  assert kernels(deterministic=False) == 0
  assert kernels(deberta) == 0
  assert kernels(embedding=np.ones((1, 16, 32), np.float32)) == 0


@platforms
@pytest.mark.parametrize("width", [32, 64])
def test_the_program_of_a_device_can_be_made(platform, width):
  """The device's compiler runs later, but wrong blocks or types fail here."""
  array = jax.ShapeDtypeStruct((2, 136, 2, width), jnp.bfloat16)
  segment = jax.ShapeDtypeStruct((2, 136), jnp.int32)
  kernel = Kernel(platform)
  loss = lambda *args: kernel(*args).astype(jnp.float32).sum()
  traced = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(*[array] * 3, segment)
  name = {"gpu": "cuda", "tpu": "tpu"}[platform]
  assert "custom_call" in traced.lower(lowering_platforms=(name,)).as_text()


def device(platform, **attributes):
  """Devices of a kind that this machine lacks, as far as `choose` looks at them."""
  one = types.SimpleNamespace(platform=platform, **attributes)
  mesh = types.SimpleNamespace(devices=np.array([[one]]))
  return types.SimpleNamespace(mesh=mesh, shards=1)


def gpu(capability):
  return device("gpu", compute_capability=capability)


A100 = gpu("8.0")


@pytest.mark.parametrize(
  ("config", "devices", "problem"),
  [
    (BERT, device("cpu"), "need a GPU or a TPU, and this is a CPU"),
    (EncoderConfig(**SMALL | V3), A100, "relative positions of DeBERTa"),
    (EncoderConfig(**SMALL), A100, "width 16 to 128, not 6"),
    (BERT, gpu("7.5"), "compute capability 8.0, not 7.5"),
    (BERT, gpu("gfx90a"), "compute capability 8.0, not gfx90a"),
  ],
)
def test_auto_falls_back_and_kernel_refuses(config, devices, problem):
  assert choose("auto", config, devices) is None
  with pytest.raises(UserError) as error:
    choose("kernel", config, devices)
  assert problem in str(error.value)
  assert "set --config.attention=auto" in str(error.value)


def test_a_jax_without_the_kernel_is_a_reason_as_well(monkeypatch):
  monkeypatch.setitem(attention_kernel.MODULES, "gpu", "jax.experimental.gone")
  test_auto_falls_back_and_kernel_refuses(BERT, A100, "no kernel for GPUs")


def test_auto_takes_the_kernel_of_the_device():
  for setting in ("auto", "kernel"):
    assert choose(setting, BERT, A100) == Kernel("gpu")
    assert choose(setting, EncoderConfig(**SMALL), device("tpu")) == Kernel("tpu")
  assert choose("plain", BERT, A100) is None
