"""The train step: averages, clocks, keys and reports, whatever the method."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssljax.data.batches import loader
from ssljax.method import (
  Assignment,
  Clock,
  Evidence,
  Method,
  Outputs,
  Rule,
  Sizes,
  consistency,
)
from ssljax.models.dropout import dropout
from ssljax.training import step
from tests import tiny


class Seen(NamedTuple):
  """What the rule of these tests carries: what it was shown last."""

  evidence: Evidence
  clock: Clock


def watching() -> Method:
  """A method that remembers what its rule saw; every weak label counts a half."""

  def init(sizes):
    flat = lambda rows: jnp.zeros((rows, tiny.CLASSES), jnp.float32)
    evidence = Evidence(
      flat(sizes.unlabelled_batch),
      flat(sizes.batch),
      flat(sizes.batch),
      jnp.zeros(sizes.unlabelled_batch, jnp.int32),
    )
    zero = jnp.zeros((), jnp.int32)
    return Seen(evidence, Clock(zero, jnp.zeros((), jnp.float32), zero, zero))

  def assign(state, evidence, clock):
    weight = jnp.full(evidence.logits.shape[0], 0.5, jnp.float32)
    assigned = Assignment(jax.nn.softmax(evidence.logits), weight)
    return assigned, Seen(evidence, clock._replace(key=clock.step))

  return consistency(Rule(init, assign), scale=2.0)


class Bag:
  """A bag of words with dropout: as much of a model as the step asks for."""

  def __init__(self, rate: float = 0.5):
    self.rate = rate

  def apply(self, variables, views, deterministic=True, rngs=None) -> Outputs:
    params = variables["params"]
    means = []
    for view in views:
      (rows,) = jax.tree.map(lambda a: a[0], view.rows)
      real = (rows.segment > 0)[..., None]
      mean = (params["table"][rows.ids] * real).sum(1) / real.sum(1)
      means.append(mean[view.where[0]])
    features = jnp.concatenate(means)
    if not deterministic:
      features = dropout(features, self.rate, rngs["dropout"])
    return Outputs(features @ params["kernel"] + params["bias"], features, {})


SIZES = Sizes(
  tiny.CLASSES,
  tiny.LABELLED,
  tiny.UNLABELLED,
  tiny.BATCH,
  tiny.UNLABELLED_BATCH,
  tiny.STEPS,
  tiny.EPOCH_STEPS,
)
PARTS = {
  "model": Bag(),
  "method": watching(),
  "optimizer": optax.sgd(0.05, momentum=0.9),
  "sizes": SIZES,
}
compiled = functools.cache(
  lambda **more: jax.jit(step.make_train_step(**PARTS, **more))
)


def first(ema: bool = False, key: int = 1) -> step.TrainState:
  """The state before the first step."""
  random = np.random.default_rng(0)
  params = {
    "table": jnp.float32(random.standard_normal((tiny.VOCABULARY, 16))),
    "kernel": jnp.float32(random.standard_normal((16, tiny.CLASSES))),
    "bias": jnp.float32(random.standard_normal(tiny.CLASSES)),
  }
  parts = {name: part for name, part in PARTS.items() if name != "model"}
  return step.init_state(params, **parts, ema=ema, key=jax.random.key(key, impl="rbg"))


@functools.cache
def batches(micro: int = 1) -> loader.Loader:
  random = np.random.default_rng(0)
  data = loader.TrainSet(
    {"weak": tiny.made_up(random, tiny.LABELLED)},
    {view: tiny.made_up(random, tiny.UNLABELLED) for view in ("weak", "strong")},
    np.arange(tiny.LABELLED, dtype=np.int32) % tiny.CLASSES,
    random.integers(0, tiny.CLASSES, tiny.UNLABELLED).astype(np.int32),
  )
  return loader.Loader(
    data,
    batch=tiny.BATCH,
    unlabelled_batch=tiny.UNLABELLED_BATCH,
    classes=tiny.CLASSES,
    seed=0,
    steps=tiny.STEPS,
    layout=loader.Layout(1, micro, [(32,)], packed=False),
  )


def say(views) -> np.ndarray:
  """What the first parameters say of the views, without dropout."""
  return np.asarray(Bag().apply({"params": first().params}, views).logits)


def assert_close(a, b, tolerance=1e-6):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def distance(a, b) -> float:
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)


@pytest.fixture(scope="module")
def averaged():
  """States of five steps with an average, the first state before them, and metrics."""
  states, metrics = [first(ema=True)], []
  for t in range(5):
    state, values = compiled(ema=0.8)(states[-1], *batches().batch(t))
    states.append(state)
    metrics.append(values)
  return states, metrics


def test_the_average_follows_its_recursion(averaged):
  states, _ = averaged
  wanted = jax.tree.map(np.asarray, states[0].params)
  assert_close(states[0].ema, wanted, 0)
  for t, state in enumerate(states[1:]):
    decay = min(0.8, 1 - 1 / (t + 1))  # a plain mean at first
    wanted = jax.tree.map(
      lambda e, p, d=decay: d * e + (1 - d) * np.asarray(p), wanted, state.params
    )
    assert_close(state.ema, wanted)
    # Neither is the other, but after the first step.
    assert (distance(state.ema, state.params) > 1e-3) == (t > 0)
    assert distance(state.ema, states[0].params) > 1e-3


def test_the_first_average_is_no_alias_of_the_parameters():
  state = first(ema=True)
  for mine, average in zip(
    jax.tree.leaves(state.params), jax.tree.leaves(state.ema), strict=True
  ):
    assert mine.unsafe_buffer_pointer() != average.unsafe_buffer_pointer()


def test_without_a_decay_no_average_is_carried(averaged):
  state = first()
  assert state.ema is None
  after, metrics = compiled()(state, *batches().batch(0))
  assert after.ema is None
  # The average takes no part in the training.
  states, with_average = averaged
  assert_close(after.params, states[1].params, 1e-5)
  assert_close(metrics, with_average[0], 1e-5)


def test_the_step_counts_and_keeps_its_key(averaged):
  states, _ = averaged
  assert [int(state.step) for state in states] == list(range(6))
  for state in states:
    np.testing.assert_array_equal(
      jax.random.key_data(state.key), jax.random.key_data(states[0].key)
    )


def test_the_clock_tells_step_progress_and_epoch(averaged):
  clocks = [state.method.clock for state in averaged[0][1:]]
  assert [int(clock.step) for clock in clocks] == [0, 1, 2, 3, 4]
  shares = [float(clock.progress) for clock in clocks]
  assert shares == pytest.approx([t / tiny.STEPS for t in range(5)])
  assert tiny.EPOCH_STEPS == 3
  assert [int(clock.epoch) for clock in clocks] == [0, 0, 0, 1, 1]


def test_the_parameters_move_by_the_update_that_is_reported(averaged):
  states, metrics = averaged
  # The first step of SGD with momentum: the gradient times its rate.
  moved = jax.tree.map(
    lambda a, b: np.asarray(b - a), states[0].params, states[1].params
  )
  norm = np.sqrt(
    sum((leaf.astype(np.float64) ** 2).sum() for leaf in jax.tree.leaves(moved))
  )
  assert metrics[0]["update_norm"] == pytest.approx(norm, rel=1e-4)
  assert metrics[0]["gradient_norm"] == pytest.approx(norm / 0.05, rel=1e-4)
  assert metrics[0]["update_norm"] > 0.01


def test_the_loss_is_the_sum_of_its_terms(averaged):
  for values in averaged[1]:
    assert {leaf.dtype for leaf in values.values()} == {jnp.dtype("float32")}
    assert values["labelled"] > 0
    assert values["unlabelled"] > 0
    total = values["labelled"] + values["unlabelled"]
    assert values["loss"] == pytest.approx(float(total), rel=1e-6)
    assert values["mask_rate"] == 1
    assert values["pseudo_label_weight"] == 0.5


def test_the_terms_are_those_of_the_models_outputs():
  """The first step, recomputed from what the model says of its batch."""
  still = jax.jit(step.make_train_step(**PARTS | {"model": Bag(0.0)}))
  state, metrics = still(first(), *batches().batch(0))
  texts, _ = batches().batch(0)
  views = (texts.labelled.views["weak"], *texts.unlabelled.views.values())
  logits = np.asarray(say(views), np.float64)
  x, w, s = np.split(logits, [tiny.BATCH, tiny.BATCH + tiny.UNLABELLED_BATCH])
  log = lambda z: z - np.log(np.exp(z).sum(-1, keepdims=True))
  supervised = -(texts.labelled.label * log(x)).sum(-1).mean()
  consistent = 2.0 * 0.5 * -(np.exp(log(w)) * log(s)).sum(-1).mean()
  assert metrics["labelled"] == pytest.approx(supervised, rel=1e-5)
  assert metrics["unlabelled"] == pytest.approx(consistent, rel=1e-5)
  seen = state.method.evidence
  assert_close(seen.logits, w, 1e-5)
  assert_close(seen.labelled_logits, x, 1e-5)
  np.testing.assert_array_equal(seen.label, texts.labelled.label)
  np.testing.assert_array_equal(seen.index, texts.unlabelled.index)


def after(key: int, t: int = 0, micro: int = 1, **options):
  """State and metrics after step t, taken with the first parameters."""
  state = first(key=key)._replace(step=jnp.int32(t))
  return compiled(micro=micro, **options)(state, *batches(micro).batch(0))


@pytest.mark.parametrize("micro", [1, 2])
def test_without_weak_dropout_the_assignment_is_the_same_for_any_key(micro):
  one, metrics = after(1, micro=micro, weak_dropout=False)
  two, others = after(2, micro=micro, weak_dropout=False)
  assert_close(one.method.evidence.logits, two.method.evidence.logits)
  # It is that of a model without dropout; what learns drops all the same.
  weak = batches().batch(0)[0].unlabelled.views["weak"]
  assert_close(one.method.evidence.logits, say((weak,)), 1e-5)
  for name in ("labelled", "unlabelled"):
    assert abs(metrics[name] - others[name]) > 0.01


@pytest.mark.parametrize("micro", [1, 2])
def test_by_default_the_assignment_hangs_on_key_and_step(micro):
  one, again, two, later = (
    after(key, t, micro)[0].method.evidence.logits
    for key, t in ((1, 0), (1, 0), (2, 0), (1, 1))
  )
  np.testing.assert_array_equal(one, again)
  assert np.abs(one - two).max() > 0.05
  assert np.abs(one - later).max() > 0.05


def test_what_spans_the_batch_is_not_accumulated():
  for missing in ("assign", "learn"):
    spanning = PARTS | {"method": PARTS["method"]._replace(**{missing: None})}
    with pytest.raises(ValueError, match="spans the batch"):
      step.make_train_step(**spanning, micro=2)
    step.make_train_step(**spanning)
