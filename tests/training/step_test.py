"""The train step: average, clock, keys and metrics, with a recording method."""

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
from ssljax.testing import tiny
from ssljax.training import step


class Recorded(NamedTuple):
  """State of the recording method: the latest arguments of its rule."""

  evidence: Evidence
  clock: Clock


def recording_method() -> Method:
  """A method that records what its rule gets; every pseudo-label has weight 0.5."""

  def init(sizes):
    zeros = lambda rows: jnp.zeros((rows, tiny.CLASSES), jnp.float32)
    evidence = Evidence(
      zeros(sizes.unlabelled_batch),
      zeros(sizes.batch),
      zeros(sizes.batch),
      jnp.zeros(sizes.unlabelled_batch, jnp.int32),
    )
    zero = jnp.zeros((), jnp.int32)
    return Recorded(evidence, Clock(zero, jnp.zeros((), jnp.float32), zero, zero, 1))

  def assign(state, evidence, clock):
    weight = jnp.full(evidence.logits.shape[0], 0.5, jnp.float32)
    assignment = Assignment(jax.nn.softmax(evidence.logits), weight)
    return assignment, Recorded(evidence, clock._replace(key=clock.step))

  return consistency(Rule(init, assign), scale=2.0)


class BagOfWords:
  """A minimal model for the step: a bag of words with dropout."""

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
ARGUMENTS = {
  "model": BagOfWords(),
  "method": recording_method(),
  "optimizer": optax.sgd(0.05, momentum=0.9),
  "sizes": SIZES,
}
compiled = functools.cache(
  lambda **options: jax.jit(step.make_train_step(**ARGUMENTS, **options))
)


def initial_state(ema: bool = False, key: int = 1) -> step.TrainState:
  """The state before the first step."""
  random = np.random.default_rng(0)
  params = {
    "table": jnp.float32(random.standard_normal((tiny.VOCABULARY, 16))),
    "kernel": jnp.float32(random.standard_normal((16, tiny.CLASSES))),
    "bias": jnp.float32(random.standard_normal(tiny.CLASSES)),
  }
  arguments = {name: value for name, value in ARGUMENTS.items() if name != "model"}
  return step.init_state(
    params, **arguments, ema=ema, key=jax.random.key(key, impl="rbg")
  )


@functools.cache
def batches(micro: int = 1) -> loader.Loader:
  random = np.random.default_rng(0)
  data = loader.TrainSet(
    {"weak": tiny.random_view(random, tiny.LABELLED)},
    {view: tiny.random_view(random, tiny.UNLABELLED) for view in ("weak", "strong")},
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
    layout=loader.Layout(1, micro, 32, packed=False),
  )


def initial_logits(views) -> np.ndarray:
  """Logits of the initial parameters, without dropout."""
  return np.asarray(
    BagOfWords().apply({"params": initial_state().params}, views).logits
  )


def assert_close(a, b, tolerance=1e-6):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def distance(a, b) -> float:
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)


@pytest.fixture(scope="module")
def averaged():
  """(states, metrics) of five steps with an average; the initial state comes first."""
  states, metrics = [initial_state(ema=True)], []
  for t in range(5):
    state, values = compiled(ema=0.8)(states[-1], *batches().batch(t))
    states.append(state)
    metrics.append(values)
  return states, metrics


@pytest.mark.slow
def test_the_average_follows_its_recurrence(averaged):
  states, _ = averaged
  expected = jax.tree.map(np.asarray, states[0].params)
  assert_close(states[0].ema, expected, 0)
  for t, state in enumerate(states[1:]):
    decay = min(0.8, 1 - 1 / (t + 1))  # a plain mean at first
    expected = jax.tree.map(
      lambda e, p, d=decay: d * e + (1 - d) * np.asarray(p), expected, state.params
    )
    assert_close(state.ema, expected)
    # They are equal after the first step only.
    assert (distance(state.ema, state.params) > 1e-3) == (t > 0)
    assert distance(state.ema, states[0].params) > 1e-3


def test_the_initial_average_is_not_an_alias_of_the_parameters():
  state = initial_state(ema=True)
  for param, average in zip(
    jax.tree.leaves(state.params), jax.tree.leaves(state.ema), strict=True
  ):
    assert param.unsafe_buffer_pointer() != average.unsafe_buffer_pointer()


@pytest.mark.slow
def test_without_a_decay_there_is_no_average(averaged):
  state = initial_state()
  assert state.ema is None
  after, metrics = compiled()(state, *batches().batch(0))
  assert after.ema is None
  # The average does not affect training.
  states, with_average = averaged
  assert_close(after.params, states[1].params, 1e-5)
  assert_close(metrics, with_average[0], 1e-5)


def test_the_step_is_counted_and_the_key_is_kept(averaged):
  states, _ = averaged
  assert [int(state.step) for state in states] == list(range(6))
  for state in states:
    np.testing.assert_array_equal(
      jax.random.key_data(state.key), jax.random.key_data(states[0].key)
    )


def test_the_clock_has_step_progress_and_epoch(averaged):
  clocks = [state.method.clock for state in averaged[0][1:]]
  assert [int(clock.step) for clock in clocks] == [0, 1, 2, 3, 4]
  shares = [float(clock.progress) for clock in clocks]
  assert shares == pytest.approx([t / tiny.STEPS for t in range(5)])
  assert tiny.EPOCH_STEPS == 3
  assert [int(clock.epoch) for clock in clocks] == [0, 0, 0, 1, 1]


def test_update_norm_is_the_norm_of_the_change_in_parameters(averaged):
  states, metrics = averaged
  # The first update of SGD with momentum is the gradient times the learning rate.
  change = jax.tree.map(
    lambda a, b: np.asarray(b - a), states[0].params, states[1].params
  )
  norm = np.sqrt(
    sum((leaf.astype(np.float64) ** 2).sum() for leaf in jax.tree.leaves(change))
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


@pytest.mark.slow
def test_the_terms_are_computed_from_the_outputs_of_the_model():
  """Recomputes the first step in NumPy from the logits of its batch."""
  without_dropout = jax.jit(
    step.make_train_step(**ARGUMENTS | {"model": BagOfWords(0.0)})
  )
  state, metrics = without_dropout(initial_state(), *batches().batch(0))
  texts, _ = batches().batch(0)
  views = (texts.labelled.views["weak"], *texts.unlabelled.views.values())
  logits = np.asarray(initial_logits(views), np.float64)
  x, w, s = np.split(logits, [tiny.BATCH, tiny.BATCH + tiny.UNLABELLED_BATCH])
  log = lambda z: z - np.log(np.exp(z).sum(-1, keepdims=True))
  labelled = -(texts.labelled.label * log(x)).sum(-1).mean()
  unlabelled = 2.0 * 0.5 * -(np.exp(log(w)) * log(s)).sum(-1).mean()
  assert metrics["labelled"] == pytest.approx(labelled, rel=1e-5)
  assert metrics["unlabelled"] == pytest.approx(unlabelled, rel=1e-5)
  evidence = state.method.evidence
  assert_close(evidence.logits, w, 1e-5)
  assert_close(evidence.labelled_logits, x, 1e-5)
  np.testing.assert_array_equal(evidence.label, texts.labelled.label)
  np.testing.assert_array_equal(evidence.index, texts.unlabelled.index)


def run_step(key: int, t: int = 0, micro: int = 1, **options):
  """(state, metrics) of step t, with the initial parameters."""
  state = initial_state(key=key)._replace(step=jnp.int32(t))
  return compiled(micro=micro, **options)(state, *batches(micro).batch(0))


@pytest.mark.slow
@pytest.mark.parametrize("micro", [1, 2])
def test_without_weak_dropout_the_assignment_is_the_same_for_any_key(micro):
  one, metrics = run_step(1, micro=micro, weak_dropout=False)
  two, others = run_step(2, micro=micro, weak_dropout=False)
  assert_close(one.method.evidence.logits, two.method.evidence.logits)
  # It equals that of a model without dropout; the passes with gradient use dropout.
  weak = batches().batch(0)[0].unlabelled.views["weak"]
  assert_close(one.method.evidence.logits, initial_logits((weak,)), 1e-5)
  for name in ("labelled", "unlabelled"):
    assert abs(metrics[name] - others[name]) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("micro", [1, 2])
def test_by_default_the_assignment_depends_on_key_and_step(micro):
  one, again, two, later = (
    run_step(key, t, micro)[0].method.evidence.logits
    for key, t in ((1, 0), (1, 0), (2, 0), (1, 1))
  )
  np.testing.assert_array_equal(one, again)
  assert np.abs(one - two).max() > 0.05
  assert np.abs(one - later).max() > 0.05


def test_a_loss_that_spans_the_batch_is_not_accumulated():
  for missing in ("assign", "learn"):
    arguments = ARGUMENTS | {"method": ARGUMENTS["method"]._replace(**{missing: None})}
    with pytest.raises(ValueError, match="spans the batch"):
      step.make_train_step(**arguments, micro=2)
    step.make_train_step(**arguments)
