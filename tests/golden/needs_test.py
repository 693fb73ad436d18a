"""What a method says of itself for the wrappers (`Needs`), against what it does.

Every method that a wrapper could take is tried; no list is edited. Not seen from here:
distributions that are no part of an assignment (SequenceMatch's), `mixes`, and views of
`votes` that are none.
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
  *(CLASSES, B, U, B, U, STEPS),
  epoch_steps=1,
  labelled_counts=(3, 2, 1),
  width=WIDTH,
)


def cases():
  plain = [case for case in tiny.cases() if "/" not in case]
  return [
    case for case in plain if {"weak", "strong"} <= {*tiny.method(case).needs.views}
  ]


def speech(needs, random):
  """What the model says of every view that is read, by all heads."""
  views = [f"labelled.{view}" for view in needs.labelled_views]
  views += [f"unlabelled.{view}" for view in needs.views]
  views += ["teacher.weak"] if needs.teacher else []
  classes = CLASSES + needs.virtual_classes
  said = {"kernel": random.normal(size=(WIDTH, classes))}
  for view in views:
    many = B if view.startswith("labelled") else U
    said[view] = {"logits": fake.logits(random, many, classes)}
    said[view]["features"] = random.normal(size=(many, WIDTH))
    for name, head in needs.heads.items():
      if head.kind == "classifier":
        said[view][name] = fake.logits(random, many, head.count, classes)
      else:
        said[view][name] = random.normal(size=(many, head.width or WIDTH))
  return said


def answers(case, change=lambda said: None):
  """Targets and weights of some steps, of what the model says but for `change`."""
  method, random = tiny.method(case), np.random.default_rng(0)
  take, state, found = stepper(case), method.init(SIZES), []
  for step in range(STEPS):
    said = speech(method.needs, random)
    width = CLASSES + method.needs.virtual_classes
    label = fake.labels(random, B, CLASSES, width)
    change(said)
    result = take(
      state, said, label, np.arange(U), step, progress=step / STEPS, epoch=step
    )
    state = result.state
    one = result.assigned
    found.append(tuple(jax.tree.map(np.array, (one.target, one.weight, one.more))))
  return found


@functools.cache
def stepper(case):
  return fake.stepper(tiny.method(case))


def differ(some, others):
  return any(
    not np.array_equal(a, b)
    for one, other in zip(some, others, strict=True)
    for a, b in zip(*map(jax.tree.leaves, (one[:2], other[:2])), strict=True)
  )


def is_soft(array, like) -> bool:
  """Rows are distributions, and not all of one class."""
  if array.shape != like.shape or np.any(array < 0):
    return False
  return np.allclose(array.sum(-1), 1, rtol=1e-5) and not np.isin(array, [0, 1]).all()


@pytest.mark.parametrize("case", cases())
def test_what_targets_are_made_of_is_what_needs_says(case):
  needs, plain = tiny.method(case).needs, answers(case)
  for target, _, more in plain:
    # Of several voters the mean is reported, and each has labels of its own.
    told = [] if "voters" in needs.heads else [target]
    told += jax.tree.leaves(more)
    assert needs.soft or not any(is_soft(one, target) for one in told)

  def after(view):
    """Whether the answers are others if the model says the reverse of a view."""

    def change(said):
      for part in said[view].values():
        part *= -0.25

    return differ(plain, answers(case, change))

  def labelled(said):
    for view in needs.labelled_views:
      said[f"labelled.{view}"]["logits"] *= -0.25

  assert differ(plain, answers(case, labelled)) == needs.relative
  assert after("teacher.weak" if needs.teacher else "unlabelled.weak")
  assert {"weak"} <= {*needs.votes} <= {*needs.views}
  for view in {*needs.views} - {*needs.votes}:
    assert not after(f"unlabelled.{view}"), view
