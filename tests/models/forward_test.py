"""ModelForward: views, micro-batches, embeddings, gradients, teacher and pmap."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models.forward import ModelForward
from tests.passes import (
  KEY,
  assert_alike,
  build_model,
  compiled_pass,
  jit,
  make_pass,
  on_two_devices,
  plain,
  texts,
)


@pytest.mark.slow
def test_several_views_in_one_call_equal_single_calls():
  _, params, _ = build_model()
  run = compiled_pass()
  views = texts(1), texts(2), texts(3)
  together = run(params, None, views, KEY)
  assert isinstance(together, tuple)
  alone = tuple(run(params, None, (view,), KEY) for view in views)
  assert_alike(together, alone)
  assert np.abs(alone[0].logits - alone[1].logits).max() > 0.01


@pytest.mark.slow
def test_micro_batches_equal_one_batch():
  _, params, _ = build_model()
  views = [texts(1), texts(2)]
  stacked = jax.tree.map(lambda *a: np.stack(a), *views)
  run = compiled_pass(micro=True)
  outputs = run(params, None, (stacked, stacked), KEY)
  alone = [compiled_pass()(params, None, (view,), KEY) for view in views]
  whole = jax.tree.map(lambda *a: jnp.concatenate(a), *alone)
  assert_alike(outputs, (whole, whole))
  assert_alike(run(params, None, (stacked,), KEY), whole)


@pytest.mark.slow
def test_micro_batches_have_different_dropout():
  _, params, _ = build_model(dropout=0.5)
  twice = jax.tree.map(lambda a: np.stack([a, a]), texts(1))
  outputs = compiled_pass(0.5, micro=True)(params, None, (twice,), KEY)
  first, second = np.asarray(outputs.features).reshape(2, 6, -1)
  assert np.abs(first - second).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mlp", "hf"])
def test_classify_maps_the_features_of_a_pass_to_its_outputs(head):
  model, params, _ = build_model(head)
  forward = ModelForward(model, params)
  outputs = jit(lambda view: forward(view, key=KEY))(texts(1))
  assert set(outputs.heads) == {"voters", "unit"}
  assert_alike(forward.classify(outputs.features), outputs)


def test_classify_has_gradients_for_features_and_heads():
  model, params, _ = build_model()
  features = np.random.default_rng(1).standard_normal((4, 16), np.float32)
  total = lambda p, f: (ModelForward(model, p).classify(f).logits ** 2).sum()
  to_params, to_features = jit(jax.grad(total, (0, 1)))(params, features)
  assert np.abs(to_features).min(axis=-1).max() > 0
  assert np.abs(to_params["classifier"]["kernel"]).max() > 0


@functools.cache
def embedded():
  """Outputs through `embed`, the embeddings, and the gradient with respect to them."""
  model, params, _ = build_model()

  def run(params, view):
    forward = ModelForward(model, params)
    filled = forward.embed(view)

    def total(filled):
      outputs = forward(filled, key=KEY)
      return (outputs.logits**2).sum(), outputs

    ints = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.integer)
    gradient, outputs = jax.grad(total, has_aux=True, allow_int=True)(filled)
    (rows,) = gradient.rows
    assert all(ints(leaf) for leaf in filled.rows[0][:4])
    return outputs, filled.rows[0].embedding, rows.embedding

  return jit(run)(params, texts(1))


@pytest.mark.slow
def test_a_pass_over_the_embeddings_of_its_texts_gives_the_same_outputs():
  _, params, _ = build_model()
  outputs, embedding, _ = embedded()
  assert_alike(outputs, compiled_pass()(params, None, (texts(1),), KEY))
  table = params["encoder"]["embeddings"]["word"]["embedding"]
  np.testing.assert_array_equal(embedding, table[texts(1).rows[0].ids])
  assert embedding.dtype == jnp.float32


def test_all_tokens_but_no_padding_have_a_gradient():
  _, _, gradient = embedded()
  real = texts(1).rows[0].segment > 0
  assert not real.all()
  size = np.abs(gradient).max(axis=-1)
  assert size[real].min() > 0
  np.testing.assert_array_equal(size[~real], 0)


def test_changed_embeddings_change_the_outputs():
  model, params, _ = build_model()
  forward = ModelForward(model, params)

  def run(noise):
    filled = forward.embed(texts(1))
    rows = filled.rows[0]._replace(embedding=filled.rows[0].embedding + noise)
    return forward(filled._replace(rows=(rows,)), key=KEY).logits

  noise = np.random.default_rng(2).standard_normal(16, np.float32)
  assert np.abs(jit(run)(noise) - embedded()[0].logits).max() > 0.01


def test_a_missing_teacher_is_an_error():
  model, params, _ = build_model()
  with pytest.raises(ValueError, match=r"Needs\(teacher=True\)"):
    ModelForward(model, params)(texts(1), key=KEY, teacher=True)


@functools.cache
def gradients(dropout: float = 0.0, **of_call):
  """(outputs, largest gradient of the parameters, largest of the teacher's)."""
  run = make_pass(dropout, **of_call)
  _, *both = build_model(dropout=dropout)

  def total(params, teacher):
    outputs = run(params, teacher, (texts(1),), KEY)
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(outputs)), outputs

  (student, teachers), outputs = jit(jax.grad(total, (0, 1), has_aux=True))(*both)
  size = lambda tree: max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
  return outputs, size(student), size(teachers)


def test_the_teacher_uses_its_own_parameters_and_has_no_gradient():
  _, params, teacher = build_model()
  outputs, student, teachers = gradients(teacher=True)
  assert student == teachers == 0
  # The default, gradient=True, does not apply to the teacher.
  assert_alike(outputs, compiled_pass()(teacher, None, (texts(1),), KEY))
  assert (
    np.abs(
      outputs.logits - compiled_pass()(params, None, (texts(1),), KEY).logits
    ).max()
    > 0.01
  )


@pytest.mark.slow
def test_a_pass_without_gradient_has_the_same_outputs():
  outputs, student, teachers = gradients(gradient=False)
  assert student == teachers == 0
  learning, student, teachers = gradients()
  assert student > 0
  assert teachers == 0
  assert_alike(outputs, learning)


@pytest.mark.slow
@pytest.mark.parametrize("which", [{"gradient": False}, {"teacher": True}], ids=str)
def test_without_weak_dropout_passes_without_gradient_have_no_dropout(which):
  _, *both = build_model(dropout=0.5)
  views, other = (texts(1),), jax.random.fold_in(KEY, 1)
  still = compiled_pass(0.5, weak_dropout=False, **which)
  assert_alike(still(*both, views, KEY), still(*both, views, other))
  # The outputs are those of a model without dropout.
  params = both[1 if "teacher" in which else 0]
  assert_alike(still(*both, views, KEY), compiled_pass()(params, None, views, KEY))
  moving = compiled_pass(0.5, **which)
  moved = moving(*both, views, KEY).logits - moving(*both, views, other).logits
  assert np.abs(moved).max() > 0.01


def test_without_weak_dropout_passes_with_gradient_have_dropout():
  _, *both = build_model(dropout=0.5)
  run = compiled_pass(0.5, weak_dropout=False)
  one, two = (run(*both, (texts(1),), jax.random.fold_in(KEY, k)) for k in range(2))
  assert np.abs(one.logits - two.logits).max() > 0.01


@pytest.mark.slow
def test_under_pmap_each_device_sees_the_global_batch():
  model, params, _ = build_model()
  forward = ModelForward(model, params, axis="data")
  views = texts(1, shards=2), texts(2, shards=2)
  outputs = on_two_devices(lambda *shard: forward(*shard, key=KEY), *views)
  assert_alike(outputs, tuple(plain("mlp")(view) for view in views))


@pytest.mark.slow
def test_under_pmap_dropout_differs_by_device():
  model, params, _ = build_model(dropout=0.5)
  forward = ModelForward(model, params, axis="data")
  half = texts(1, rows=3)
  twice = jax.tree.map(lambda a: np.concatenate([a, a]), half)
  outputs = on_two_devices(lambda shard: forward(shard, key=KEY), twice)
  assert np.abs(outputs.logits[:3] - outputs.logits[3:]).max() > 0.01
