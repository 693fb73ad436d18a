"""The optimiser, compared with AdamW in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssljax.training import optim

LAYERS = 3


def params():
  key = iter(jax.random.split(jax.random.key(0), 20))
  normal = lambda *shape: jax.random.normal(next(key), shape)
  return {
    "encoder": {
      "embeddings": {
        "word": {"embedding": normal(7, 4)},
        "norm": {"scale": normal(4), "bias": normal(4)},
      },
      "layers": {
        "up": {"kernel": normal(LAYERS, 4, 5), "bias": normal(LAYERS, 5)},
        "norm": {"scale": normal(LAYERS, 4), "bias": normal(LAYERS, 4)},
      },
      "relative": {"embedding": normal(6, 4)},
      "relative_norm": {"scale": normal(4), "bias": normal(4)},
      "conv": {"kernel": normal(3, 4, 4), "bias": normal(4)},
      "conv_norm": {"scale": normal(4), "bias": normal(4)},
    },
    "dense": {"kernel": normal(4, 4), "bias": normal(4)},
    "voters": {"kernel": normal(2, 4, 3), "bias": normal(2, 3)},
  }


def make(tree, **changes):
  options = {
    "learning_rate": 1e-2,
    "weight_decay": 0.0,
    "layer_decay": 1.0,
    "warmup": 0,
    "total": 10,
    "clip": 0.0,
  }
  return optim.make(tree, **(options | changes))


def first_update(tree, gradients=None, **changes):
  transform = make(tree, **changes)
  if gradients is None:
    gradients = jax.tree.map(jnp.ones_like, tree)
  return transform.update(gradients, transform.init(tree), tree)[0]


def test_schedule_rises_linearly_then_falls_along_the_cosine():
  rate = optim.schedule(2e-3, 10, 110)
  assert float(rate(0)) == 0
  np.testing.assert_allclose(rate(5), 1e-3, rtol=1e-6)
  np.testing.assert_allclose(rate(10), 2e-3, rtol=1e-6)
  for t in (11, 60, 110):
    expected = 2e-3 * math.cos(math.pi * 7 / 16 * (t - 10) / 100)
    np.testing.assert_allclose(rate(t), expected, rtol=1e-5)
  assert float(rate(10_000)) >= 0  # never rises again


def test_schedule_without_warmup_starts_at_the_peak_and_is_strongly_typed():
  rate = optim.schedule(1.0, 0, 4)
  assert float(rate(0)) == 1
  assert float(optim.schedule(1.0, 4, 4)(4)) == 1  # only warm-up: no division by 0
  for count in (3, jnp.int32(3)):
    value = rate(count)
    assert value.dtype == jnp.float32
    assert not value.weak_type


@pytest.mark.slow
def test_each_group_has_its_own_learning_rate():
  decay = 0.5
  update = first_update(params(), layer_decay=decay)
  # The first update of Adam is the sign of the gradient, so the factor remains.
  factor = jax.tree.map(lambda u: np.asarray(-u / 1e-2), update)
  encoder = factor.pop("encoder")
  stacks = encoder.pop("layers")
  close = lambda x, value: np.testing.assert_allclose(x, value, rtol=1e-5)
  for leaf in jax.tree.leaves(factor):
    close(leaf, 1)
  for name in ("embeddings", "relative", "relative_norm"):
    for leaf in jax.tree.leaves(encoder[name]):
      close(leaf, decay ** (LAYERS + 1))
  for name in ("conv", "conv_norm"):
    for leaf in jax.tree.leaves(encoder[name]):
      close(leaf, decay**LAYERS)
  for leaf in jax.tree.leaves(stacks):
    for i in range(LAYERS):
      close(leaf[i], decay ** (LAYERS - i))


def test_only_matrices_have_weight_decay():
  tree = params()
  zero = jax.tree.map(jnp.zeros_like, tree)
  update = first_update(tree, zero, weight_decay=0.1)
  for (path, u), p in zip(
    jax.tree_util.tree_leaves_with_path(update), jax.tree.leaves(tree), strict=True
  ):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    decayed = name.endswith(("kernel", "embedding"))
    expected = -1e-2 * 0.1 * p if decayed else 0 * p
    np.testing.assert_allclose(u, expected, rtol=1e-5, atol=1e-12, err_msg=name)


@pytest.mark.slow
def test_several_steps_equal_adamw_with_the_rate_of_the_group():
  tree, decay, weight_decay = params(), 0.75, 0.3
  transform = make(tree, layer_decay=decay, weight_decay=weight_decay, warmup=2)
  rate = optim.schedule(1e-2, 2, 10)
  state = transform.init(tree)
  p = np.asarray(tree["encoder"]["layers"]["up"]["kernel"], np.float64)
  m, v = np.zeros_like(p), np.zeros_like(p)
  factor = decay ** np.arange(LAYERS, 0, -1.0)[:, None, None]
  for t in range(6):
    gradients = jax.tree.map(lambda x, t=t: jnp.sin(3 * x + t), tree)
    g = np.asarray(gradients["encoder"]["layers"]["up"]["kernel"], np.float64)
    updates, state = jax.jit(transform.update)(gradients, state, tree)
    tree = optax.apply_updates(tree, updates)
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    step = m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
    p = p - float(rate(t)) * factor * (step + weight_decay * p)
  np.testing.assert_allclose(tree["encoder"]["layers"]["up"]["kernel"], p, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_clipping_limits_the_gradient_that_adam_gets(clip):
  tree = params()
  transform = make(tree, clip=clip)
  gradients = jax.tree.map(lambda x: 100 * jnp.ones_like(x), tree)
  _, state = transform.update(gradients, transform.init(tree), tree)
  mu = next(s.mu for s in state if hasattr(s, "mu"))
  expected = 0.1 * (clip or float(optax.tree.norm(gradients)))
  np.testing.assert_allclose(optax.tree.norm(mu), expected, rtol=1e-5)


def test_the_state_is_strongly_typed_and_the_step_compiles_once():
  tree = params()
  transform = make(tree, clip=1.0, layer_decay=0.5, weight_decay=0.1)
  state = transform.init(tree)
  for leaf in jax.tree.leaves(state):
    assert not leaf.weak_type
  traces = []

  @jax.jit
  def step(tree, state):
    traces.append(1)
    updates, state = transform.update(tree, state, tree)
    return optax.apply_updates(tree, updates), state

  for _ in range(3):
    tree, state = step(tree, state)
  assert len(traces) == 1


def test_the_program_has_no_constants_of_parameter_size():
  # Factors with the shapes of the parameters would be as large as the parameters.
  shapes = jax.eval_shape(params)
  transform = make(shapes, layer_decay=0.5)
  text = jax.make_jaxpr(transform.update)(
    shapes, jax.eval_shape(transform.init, shapes), shapes
  )
  assert all(np.size(c) <= LAYERS for c in text.consts)


@pytest.mark.slow
def test_all_networks_have_the_same_groups():
  tree = params()
  several = {**tree, "networks_0": tree, "networks_1": {"dense": tree["dense"]}}
  zero = jax.tree.map(jnp.zeros_like, several)
  for gradients in (several, zero):
    options = {"layer_decay": 0.5, "weight_decay": 0.1}
    update = first_update(several, gradients, **options)
    jax.tree.map(
      np.testing.assert_array_equal,
      update["networks_0"],
      {name: update[name] for name in tree},
    )
    np.testing.assert_array_equal(
      update["networks_1"]["dense"]["kernel"], update["dense"]["kernel"]
    )
