"""The consistency loss of Pi-Model and Mean Teacher: passes, gradients and ramp."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.batch import Batch, Labelled, Unlabelled
from ssljax.method import Clock, Outputs
from ssljax.ops.agreement import agreement, square

B, U, C = 3, 5, 4


def loss(outputs, teacher, progress):
  """The totals of the terms; `outputs` by view, "teacher" is its weak view."""
  calls = []

  def forward(*texts, key, teacher=False, gradient=True):
    calls.append((texts, teacher, gradient))
    result = tuple(
      Outputs(outputs["teacher" if teacher else name], jnp.zeros(1), {})
      for name in texts
    )
    return result if len(texts) > 1 else result[0]

  batch = Batch(
    Labelled({"weak": "labelled"}, jnp.eye(C)[:B], jnp.arange(B)),
    Unlabelled({"weak": "weak", "strong": "strong"}, jnp.arange(U)),
  )
  clock = Clock(jnp.int32(0), jnp.float32(progress), jnp.int32(0), jax.random.key(0), 1)
  method = agreement(teacher, scale=6.0, ramp=0.5)
  assert method.needs.teacher == teacher
  terms, _, _ = method.loss(forward, batch, (), clock)
  assert calls[0] == (("weak",), teacher, False)
  return {n: t.scale * jnp.mean(t.weight * t.loss) for n, t in terms.items()}


@pytest.mark.slow
@pytest.mark.parametrize("teacher", [False, True])
@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.25, 0.5), (0.9, 1.0)])
def test_the_strong_view_learns_from_the_weak_one(teacher, progress, share):
  random = np.random.default_rng(0)
  outputs = {
    name: jnp.asarray(random.normal(size=(B if name == "labelled" else U, C)))
    for name in ("labelled", "weak", "strong", "teacher")
  }
  unlabelled = lambda outputs: loss(outputs, teacher, progress)["unlabelled"]
  total, slope = jax.value_and_grad(unlabelled)(outputs)
  target = outputs["teacher" if teacher else "weak"]
  gap = jax.nn.softmax(outputs["strong"]) - jax.nn.softmax(target)
  square = C / 2 * float((gap**2).sum(1).mean())
  assert float(total) == pytest.approx(6.0 * share * square, rel=1e-5)
  assert np.any(slope.pop("strong")) == (share > 0)
  assert not any(np.any(one) for one in slope.values())


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 10, 15])
def test_near_uniform_the_square_has_the_gradient_of_cross_entropy(classes):
  target = jnp.eye(classes)[:2]
  flat = jnp.zeros((2, classes))
  pull = jax.grad(lambda z: square(jax.nn.softmax(z), target).sum())(flat)
  np.testing.assert_allclose(pull, 1 / classes - target, rtol=1e-5, atol=1e-6)
