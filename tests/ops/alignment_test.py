"""Alignment, its averages, and sharpening, against plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.ops import alignment


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_an_average_starts_at_its_first_value(momentum):
  random = np.random.default_rng(0)
  state, expected = alignment.average_init(3), None
  update = jax.jit(alignment.average_update, static_argnums=2)
  for count in range(1, 6):
    value = random.random(3)
    state = update(state, jnp.asarray(value, jnp.float32), 1 - momentum)
    expected = [
      new if expected is None else momentum * expected[c] + (1 - momentum) * new
      for c, new in enumerate(value)
    ]
    np.testing.assert_allclose(state.mean, expected, rtol=1e-5)
    assert state.steps == count


@pytest.mark.parametrize("length", [1, 3, 10])
def test_a_window_averages_the_newest_values(length):
  random = np.random.default_rng(0)
  state, seen = alignment.window_init(length, 4), []
  np.testing.assert_array_equal(alignment.window_mean(state), np.zeros(4))
  update = jax.jit(alignment.window_update)
  for _ in range(8):
    seen.append(random.random(4).astype(np.float32))
    state = update(state, seen[-1])
    newest = seen[-length:]
    expected = [sum(float(row[c]) for row in newest) / len(newest) for c in range(4)]
    np.testing.assert_allclose(alignment.window_mean(state), expected, rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 5])
def test_alignment_scales_by_class_and_normalises(classes):
  random = np.random.default_rng(classes)
  probability = random.dirichlet([0.3] * classes, size=7)
  wanted, mean = random.dirichlet([0.5] * classes, size=2)
  wanted[0], mean[-1] = 0.0, 0.0  # nobody is wanted, nobody was seen
  result = alignment.aligned(*(jnp.asarray(a) for a in (probability, wanted, mean)))
  for row, p in zip(result, probability, strict=True):
    scaled = [p[c] * (wanted[c] + 1e-6) / (mean[c] + 1e-6) for c in range(classes)]
    np.testing.assert_allclose(row, [s / sum(scaled) for s in scaled], rtol=1e-4)
  np.testing.assert_allclose(result.sum(-1), np.ones(7), rtol=1e-5)


def test_alignment_keeps_predictions_with_the_target_mean():
  probability = jnp.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
  mean = jnp.array([0.5, 0.3, 0.2])
  np.testing.assert_allclose(
    alignment.aligned(probability, mean, mean), probability, rtol=1e-6
  )


def test_labelled_counts_are_at_least_1():
  sizes = Sizes(3, 9, 30, 3, 9)
  np.testing.assert_array_equal(alignment.labelled_counts(sizes), [1, 1, 1])
  sizes = sizes._replace(labelled_counts=(7, 0, 2))
  np.testing.assert_array_equal(alignment.labelled_counts(sizes), [7, 1, 2])


def test_uniform():
  np.testing.assert_allclose(alignment.uniform(5), [0.2] * 5, rtol=1e-6)


@pytest.mark.parametrize("temperature", [2.0, 1.0, 0.5, 0.1, 0.01])
def test_sharpening_is_a_normalised_power(temperature):
  random = np.random.default_rng(0)
  rows = [*random.dirichlet([0.3] * 4, size=6), [0.25] * 4, [0.5, 0.5, 0, 0]]
  # At 0.01 all powers of the first are 0 in f32, as is the square of 1e-25.
  rows += [[0.26, 0.25, 0.25, 0.24], [1 - 2e-25, 1e-25, 1e-25, 0], [1, 0, 0, 0]]
  rows = np.array(rows, np.float32)
  result = np.asarray(alignment.sharpened(jnp.asarray(rows), temperature))
  for row, p in zip(result, rows, strict=True):
    # Scaled by the largest, as powers of small numbers are no numbers here, either.
    powers = [(float(x) / float(max(p))) ** (1 / temperature) for x in p]
    expected = [power / sum(powers) for power in powers]
    np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-12)
  np.testing.assert_allclose(result.sum(-1), np.ones(len(rows)), rtol=1e-5)


def test_sharpening_at_temperature_0_is_one_hot():
  rows = jnp.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [0.0, 0.0, 1.0]])
  np.testing.assert_array_equal(
    alignment.sharpened(rows, 0.0), [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
  )
