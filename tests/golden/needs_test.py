"""What methods declare in `Needs` for wrappers, compared with what they do.

Every method that a wrapper could take is tested; there is no list to edit. Not covered:
distributions outside of an assignment (SequenceMatch's), `mixes`, and views that
`votes` names without need.
"""

import functools

import jax
import numpy as np
import pytest

from ssljax.method import Sizes
from tests import tiny
from tests.golden import fake

B, U, CLASSES, WIDTH, STEPS = 6, 24, 3, 8, 6
SIZES = Sizes(
  classes=CLASSES,
  labelled=B,
  unlabelled=U,
  batch=B,
  unlabelled_batch=U,
  steps=STEPS,
  epoch_steps=1,
  labelled_counts=(3, 2, 1),
  width=WIDTH,
)


def cases():
  return [
    case
    for case in tiny.cases()
    if "/" not in case and {"weak", "strong"} <= {*tiny.method(case).needs.views}
  ]


def random_outputs(needs, random):
  """Outputs of all heads for every view that the method reads."""
  views = [f"labelled.{view}" for view in needs.labelled_views]
  views += [f"unlabelled.{view}" for view in needs.views]
  views += ["teacher.weak"] if needs.teacher else []
  classes = CLASSES + needs.virtual_classes
  outputs = {"kernel": random.normal(size=(WIDTH, classes))}
  for view in views:
    count = B if view.startswith("labelled") else U
    outputs[view] = {"logits": fake.random_logits(random, count, classes)}
    outputs[view]["features"] = random.normal(size=(count, WIDTH))
    for name, head in needs.heads.items():
      if head.kind in ("classifier", "network"):
        outputs[view][name] = fake.random_logits(random, count, head.count, classes)
      else:
        outputs[view][name] = random.normal(size=(count, head.width or WIDTH))
  return outputs


def assignments(case, change=lambda outputs: None):
  """(target, weight, more) of some steps; `change` modifies the model's outputs."""
  method, random = tiny.method(case), np.random.default_rng(0)
  take_step, state, results = stepper(case), method.init(SIZES), []
  for step in range(STEPS):
    outputs = random_outputs(method.needs, random)
    width = CLASSES + method.needs.virtual_classes
    label = fake.random_labels(random, B, CLASSES, width)
    change(outputs)
    result = take_step(
      state, outputs, label, np.arange(U), step, progress=step / STEPS, epoch=step
    )
    state, assigned = result.state, result.assigned
    arrays = (assigned.target, assigned.weight, assigned.more)
    results.append(tuple(jax.tree.map(np.array, arrays)))
  return results


@functools.cache
def stepper(case):
  return fake.stepper(tiny.method(case))


def differ(first, second):
  """Whether any targets or weights differ."""
  return any(
    not np.array_equal(a, b)
    for x, y in zip(first, second, strict=True)
    for a, b in zip(*map(jax.tree.leaves, (x[:2], y[:2])), strict=True)
  )


def is_soft(array, like) -> bool:
  """Whether rows are distributions, and some are not one-hot."""
  if array.shape != like.shape or np.any(array < 0):
    return False
  return np.allclose(array.sum(-1), 1, rtol=1e-5) and not np.isin(array, [0, 1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("case", cases())
def test_targets_depend_on_what_needs_declares(case):
  needs, unchanged = tiny.method(case).needs, assignments(case)
  for target, _, more in unchanged:
    # With several voters or networks, the mean is reported; each has its own labels.
    several = {"voters", "peers"} & {*needs.heads}
    targets = [] if several else [target]
    targets += jax.tree.leaves(more)
    assert needs.soft or not any(is_soft(array, target) for array in targets)

  def depends_on(view):
    """Whether the assignments change if the outputs for a view are inverted."""

    def invert(outputs):
      for array in outputs[view].values():
        array *= -0.25

    return differ(unchanged, assignments(case, invert))

  def invert_labelled(outputs):
    for view in needs.labelled_views:
      outputs[f"labelled.{view}"]["logits"] *= -0.25

  assert differ(unchanged, assignments(case, invert_labelled)) == needs.relative
  assert depends_on("teacher.weak" if needs.teacher else "unlabelled.weak")
  assert {"weak"} <= {*needs.votes} <= {*needs.views}
  for view in {*needs.views} - {*needs.votes}:
    assert not depends_on(f"unlabelled.{view}"), view
