"""A small model, texts for it, and passes over them."""

import dataclasses
import functools

import jax
import numpy as np

from ssljax.data.batches import pack
from ssljax.method import Head
from ssljax.models import Encoder
from ssljax.models.classifier import Classifier
from ssljax.models.forward import ModelForward
from ssljax.testing import tiny

KEY = jax.random.key(0, impl="rbg")
CLASSES, LAYERS, LONGEST = 3, 2, 24
LIMIT = 1e-5
# Takes a third of the time to compile; results run once.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def texts(seed: int, rows: int = 6, packed: bool = True, shards: int = 1, lengths=None):
  """Random texts of 3 to LONGEST tokens, in rows of LONGEST."""
  random = np.random.default_rng(seed)
  if lengths is None:
    # Longest first, so that all seeds have the same layout.
    lengths = np.tile([LONGEST, 16, 9, 7, 4, 3], -(-rows // 6))[:rows]
  drawn = [
    (random.integers(5, tiny.VOCABULARY, n).astype(np.int32), n) for n in lengths
  ]
  parts = [drawn[s * rows // shards :][: rows // shards] for s in range(shards)]
  plans = [
    pack.plan_rows(np.array([len(ids) for ids, _ in part]), (LONGEST,), packed)
    for part in parts
  ]
  most = int(np.max([plan.rows for plan in plans]))
  return pack.fill_rows(plans, parts, ((LONGEST, most),), packed)


@functools.cache
def build_model(head: str = "mlp", dropout: float = 0.0):
  """A model, its parameters, and those of a teacher."""
  config = dataclasses.replace(tiny.CONFIG, num_hidden_layers=LAYERS)
  heads = {"voters": Head("classifier", 2), "unit": Head("projection")}
  model = Classifier(Encoder(config, dropout=dropout), CLASSES, head, heads, dropout)
  shapes = jax.eval_shape(model.init, KEY, (texts(0),))["params"]
  random = np.random.default_rng(0)
  draw = lambda leaf: 0.3 * random.standard_normal(leaf.shape, np.float32)
  return model, jax.tree.map(draw, shapes), jax.tree.map(draw, shapes)


def make_pass(dropout: float = 0.0, **options):
  """A function (params, teacher, views, key) that runs a pass with these options."""
  model = build_model(dropout=dropout)[0]
  call_options = {k: options.pop(k) for k in ("teacher", "gradient") if k in options}

  def run(params, teacher, views, key):
    forward = ModelForward(model, params, teacher, **options)
    return forward(*views, key=key, **call_options)

  return run


compiled_pass = functools.cache(
  lambda *args, **options: jit(make_pass(*args, **options))
)


def assert_alike(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.shape == y.shape
    assert np.abs(np.asarray(x) - np.asarray(y)).max() < LIMIT


@functools.cache
def plain(head: str):
  model, params, _ = build_model(head)
  return jit(lambda view: ModelForward(model, params)(view, key=KEY))


def on_two_devices(run, *views):
  """Runs `run(*views)` under pmap, a shard per device; returns one device's outputs."""
  expand = lambda tree: jax.tree.map(lambda a: a[None], tree)
  both = jax.pmap(
    lambda *mine: run(*(expand(view) for view in mine)),
    axis_name="data",
    devices=jax.devices()[:2],
  )(*views)
  for leaf in jax.tree.leaves(both):
    np.testing.assert_array_equal(leaf[0], leaf[1])
  return jax.tree.map(lambda a: np.asarray(a[0]), both)
