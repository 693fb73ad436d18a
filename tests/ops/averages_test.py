"""Running averages and gates whose length fits the run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.method import Clock
from ssljax.ops import averages


def clock(step, steps, epoch_steps=10):
  step = jnp.asarray(step, jnp.int32)
  progress = step.astype(jnp.float32) / steps
  return Clock(step, progress, step // epoch_steps, jax.random.key(0), steps)


def running(values, momentum, time_constant, start=0.0, steps=None):
  """The average after each value."""
  steps = steps or len(values)

  def see(average, inputs):
    step, value = inputs
    share = averages.share_of_newest(clock(step, steps), momentum, time_constant)
    average = averages.updated(average, value, share)
    return average, average

  inputs = jnp.arange(len(values)), jnp.asarray(values, jnp.float32)
  return np.asarray(jax.lax.scan(see, jnp.float32(start), inputs)[1])


@pytest.mark.parametrize("steps", [1, 7, 300])
@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("time_constant", [0.001, 0.05, 1.0])
def test_the_average_of_a_constant_is_the_constant_at_every_step(
  steps, momentum, time_constant
):
  found = running([0.75] * steps, momentum, time_constant, start=-5.0)
  np.testing.assert_allclose(found, 0.75, rtol=1e-5)


@pytest.mark.parametrize(
  ("steps", "momentum", "time_constant", "memory"),
  [
    (300, 0.999, 0.05, 15),
    (1250, 0.999, 0.05, 62.5),
    (100_000, 0.999, 0.05, 1000),  # a long run keeps the momentum
    (300, 0.9, 0.05, 10),
    (300, 1.0, 0.05, 15),  # no momentum, only the time constant
    (10, 0.999, 0.05, 1),  # at least the newest value
  ],
)
def test_equals_the_weighted_mean_of_a_debiased_average(
  steps, momentum, time_constant, memory
):
  """Adam's correction: a sum of powers of 1 - 1 / memory, divided by its weights."""
  values = np.random.default_rng(0).normal(size=40)
  found = running(values, momentum, time_constant, steps=steps)
  for step in range(40):
    powers = (1 - 1 / memory) ** np.arange(step, -1, -1)
    expected = (powers * values[: step + 1]).sum() / powers.sum()
    assert found[step] == pytest.approx(expected, rel=1e-5, abs=2e-6)


def test_the_first_values_have_equal_weights():
  found = running([1.0, 2.0, 6.0] + [0.0] * 97, 0.999, 1.0)
  np.testing.assert_allclose(found[:3], [1.0, 1.5, 3.0], rtol=0.02)


def test_a_jump_is_forgotten_after_the_memory():
  steps, memory = 300, 15
  values = [0.0] * 100 + [1.0] * 200
  found = running(values, 0.999, 0.05)
  assert found[99] == 0
  assert found[99 + memory] == pytest.approx(1 - np.exp(-1), abs=0.03)
  assert len(values) == steps


@pytest.mark.parametrize("momentum", [0.0, 0.6, 0.999, 1.0])
def test_time_constant_0_is_the_plain_momentum(momentum):
  values = np.random.default_rng(1).normal(size=30)
  expected, average = [], 0.5
  for value in values:
    average = momentum * average + (1 - momentum) * value
    expected.append(average)
  np.testing.assert_allclose(
    running(values, momentum, 0.0, start=0.5), expected, rtol=1e-5
  )
  assert averages.share_of_newest(clock(3, 30), momentum, 0.0) == 1 - momentum


def test_works_under_jit_with_a_traced_clock():
  @jax.jit
  def traced(clock):
    return (
      averages.share_of_newest(clock, 0.999, 0.05),
      averages.has_started(clock, 0.05),
      averages.is_due(clock, 10, 0.05),
    )

  for step in (0, 5, 9, 200):
    now = clock(step, 300)._replace(steps=jnp.int32(300))
    share, started, due = traced(now)
    assert share == pytest.approx(
      float(averages.share_of_newest(clock(step, 300), 0.999, 0.05)), rel=1e-6
    )
    assert (started, due) == (
      averages.has_started(now, 0.05),
      averages.is_due(now, 10, 0.05),
    )


def opening(steps, epoch_steps, start):
  """(first step at which it has started, steps at which it is due)."""
  clocks = [clock(step, steps, epoch_steps) for step in range(steps)]
  started = [bool(averages.has_started(now, start)) for now in clocks]
  due = [bool(averages.is_due(now, epoch_steps, start)) for now in clocks]
  first = started.index(True) if any(started) else None
  assert started == [first is not None and step >= first for step in range(steps)]
  return first, [step for step in range(steps) if due[step]]


@pytest.mark.parametrize(
  ("steps", "epoch_steps", "start", "first", "due"),
  [
    (40, 10, 0.1, 4, [3, 9, 19, 29, 39]),  # 4 steps, before the first epoch ends
    (40, 10, 0.25, 10, [9, 19, 29, 39]),  # with it
    (40, 10, 0.275, 10, [9, 19, 29, 39]),  # one step after it
    (40, 10, 0.225, 9, [8, 9, 19, 29, 39]),  # one step before it
    (40, 100, 0.1, 4, [3]),  # the epoch is longer than the run
    (40, 100, 1.0, None, []),
    (40, 10, 1.0, 10, [9, 19, 29, 39]),  # as published: after the epoch
    (40, 10, 0.0, 1, [0, 9, 19, 29, 39]),  # not before there is a step to look at
    (40, 1, 0.1, 1, list(range(40))),
    (1, 1, 0.05, None, [0]),
    (1, 5, 0.05, None, []),
  ],
)
def test_gates_open_after_a_share_of_the_run_or_an_epoch(
  steps, epoch_steps, start, first, due
):
  assert opening(steps, epoch_steps, start) == (first, due)


@pytest.mark.parametrize("epoch_steps", [3, 10, 50])
@pytest.mark.parametrize("start", [0.05, 0.2, 1.0])
def test_a_gate_opens_right_after_it_was_first_due(epoch_steps, start):
  first, due = opening(40, epoch_steps, start)
  assert (first - 1 if first else None) == (due[0] if due else None)
