"""Classifiers with several networks: their outputs, initial weights and dropout."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.method import Head
from ssljax.models import Encoder
from ssljax.models.classifier import NETWORK, Classifier
from ssljax.models.forward import ModelForward
from ssljax.testing.tiny import CONFIG
from ssljax.training import build
from tests import tiny
from tests.passes import CLASSES, KEY, assert_alike, jit, texts

PEERS, SECOND = {"peers": Head("network", 2)}, f"{NETWORK}0"
SMALL = dataclasses.replace(CONFIG, num_hidden_layers=1)


@functools.cache
def make(head="mlp", dropout=0.0):
  """(model, params) with random parameters."""
  model = Classifier(Encoder(SMALL, dropout=dropout), CLASSES, head, PEERS, dropout)
  shapes = jax.eval_shape(model.init, KEY, (texts(0),))["params"]
  random = np.random.default_rng(0)
  draw = lambda leaf: 0.3 * random.standard_normal(leaf.shape, np.float32)
  return model, jax.tree.map(draw, shapes)


def single(params):
  """The parameters of each network."""
  first = {name: tree for name, tree in params.items() if name != SECOND}
  return first, params[SECOND]


@functools.cache
def outputs(head="mlp", packed=True):
  model, params = make(head)
  return jit(model.apply)(
    {"params": params}, tuple(texts(seed, packed=packed) for seed in (1, 2))
  )


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mlp", "hf"])
def test_each_network_is_a_classifier_with_its_own_parameters(head):
  model, params = make(head)
  alone = model.clone(heads={})
  apply = jit(alone.apply)
  both = [apply({"params": own}, (texts(1), texts(2))) for own in single(params)]
  assert both[0].features.shape == (12, CONFIG.hidden_size)
  peers = np.stack([network.logits for network in both], axis=1)
  assert np.abs(peers[:, 0] - peers[:, 1]).min(0).max() > 0.01
  expected = both[0]._replace(logits=peers.mean(1), heads={"peers": peers})
  assert_alike(outputs(head), expected)


@pytest.mark.slow
def test_packing_makes_no_difference():
  assert_alike(outputs(packed=True), outputs(packed=False))


def test_classify_applies_the_heads_of_all_networks():
  model, params = make()
  features = np.random.default_rng(1).standard_normal((4, 16), np.float32)
  both = ModelForward(model, params).classify(features).heads["peers"]
  for i, own in enumerate(single(params)):
    alone = ModelForward(model.clone(heads={}), own).classify(features)
    assert_alike(both[:, i], alone.logits)


@pytest.mark.slow
def test_networks_with_the_same_parameters_have_different_dropout():
  _, params = make()
  equal = {**params, SECOND: single(params)[0]}

  def peers(dropout, *keys):
    """For each key, the logits of both networks, f32 [n, C]."""
    forward = ModelForward(make(dropout=dropout)[0], equal)
    run = jit(lambda key: forward(texts(1), key=key).heads["peers"])
    return [np.asarray(logits) for key in keys for logits in run(key).swapaxes(0, 1)]

  first, second = peers(0.0, KEY)
  assert np.abs(first - second).max() < 1e-5
  draws = peers(0.5, KEY, jax.random.fold_in(KEY, 1))
  for a, b in itertools.combinations(draws, 2):
    assert np.abs(a - b).max(1).min() > 0.01


@pytest.mark.slow
def test_no_network_has_a_gradient_from_another():
  model, params = make()

  def total(params, i):
    return model.apply({"params": params}, (texts(1),)).heads["peers"][:, i].sum()

  for i in range(2):
    gradient = jit(jax.grad(total), static_argnums=1)(params, i)
    sizes = [
      sum(float(np.abs(leaf).sum()) for leaf in jax.tree.leaves(own))
      for own in single(gradient)
    ]
    assert sizes[i] > 0
    assert sizes[1 - i] == 0


def test_networks_have_the_settings_of_the_first():
  encoder = Encoder(CONFIG, jnp.bfloat16, remat=True, dropout=0.25)
  model = Classifier(encoder, CLASSES, "hf", PEERS, 0.5).bind({"params": {}})
  (second,) = model.networks
  assert second.encoder.clone(name=None) == encoder
  assert (second.classes, second.head, second.rate) == (CLASSES, "hf", 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mlp", "hf"])
def test_networks_start_with_one_encoder_and_different_heads(head, tmp_path):
  tiny.folder_of_encoder(tmp_path)
  model = Classifier(Encoder(CONFIG), CLASSES, head, PEERS)
  params, _ = build.init_params(model, tmp_path, 3)
  first, second = single(params)
  expected, _ = build.init_params(model.clone(heads={}), tmp_path, 3)
  jax.tree.map(np.testing.assert_array_equal, first, expected)  # also the structure
  assert jax.tree.map(np.shape, first) == jax.tree.map(np.shape, second)
  jax.tree.map(np.testing.assert_array_equal, first["encoder"], second["encoder"])
  leaves = zip(
    *map(jax.tree.leaves, (first["encoder"], second["encoder"])), strict=True
  )
  assert not any(np.shares_memory(a, b) for a, b in leaves)  # a step updates in place
  for name in {*first} - {"encoder"}:
    assert np.abs(first[name]["kernel"] - second[name]["kernel"]).max() > 0.01
  shapes = jax.eval_shape(model.init, KEY, (texts(0),))["params"]
  assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes)


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_networks(count):
  model = Classifier(Encoder(SMALL), CLASSES, "mlp", {"peers": Head("network", count)})
  shapes = jax.eval_shape(lambda: model.init_with_output(KEY, (texts(0),)))
  outputs, variables = shapes
  assert outputs.heads["peers"].shape == (6, count, CLASSES)
  assert outputs.logits.shape == (6, CLASSES)
  names = [name for name in variables["params"] if name.startswith(NETWORK)]
  assert len(names) == count - 1


@pytest.mark.parametrize(
  ("use", "message"),
  [
    (lambda f: f(f.embed(texts(1)), key=KEY), "embed .* of one network"),
    (
      lambda f: f.mix(
        texts(1, packed=False), jnp.arange(6), jnp.float32(0.5), jnp.int32(0), KEY
      ),
      "mix .* of one network",
    ),
  ],
)
def test_texts_cannot_be_perturbed_or_mixed_inside_of_networks(use, message):
  model, params = make()
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda: use(ModelForward(model, params)))


def test_voters_and_networks_are_an_error():
  heads = {"voters": Head("classifier", 2), **PEERS}
  model = Classifier(Encoder(CONFIG), CLASSES, "mlp", heads)
  with pytest.raises(ValueError, match="'voters', 'peers'"):
    jax.eval_shape(model.init, KEY, (texts(0),))
