"""What a method says of itself for the wrappers (`Needs`), against what it does.

Every method that a wrapper could take is tried; no list is edited.
"""

import functools

import jax
import numpy as np
import pytest

from ssljax import wrappers
from ssljax.method import Sizes
from tests import tiny

from . import fake

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
    found.append((result.assigned.target, result.assigned.weight))
  return found


@functools.cache
def stepper(case):
  return fake.stepper(tiny.method(case))


def differ(some, others):
  return any(
    not np.array_equal(a, b)
    for one, other in zip(some, others, strict=True)
    for a, b in zip(one, other, strict=True)
  )


@pytest.mark.parametrize("case", cases())
def test_what_targets_are_made_of_is_what_needs_says(case):
  needs, plain = tiny.method(case).needs, answers(case)
  several = "voters" in needs.heads  # whose labels have a mean, which is reported
  labels = all(np.isin(target, [0, 1]).all() for target, _ in plain)
  assert needs.soft or several or labels

  def labelled(said):
    for view in needs.labelled_views:
      said[f"labelled.{view}"]["logits"] *= 0.25

  assert differ(plain, answers(case, labelled)) == needs.relative

  for view in needs.views:

    def other(said, view=view):
      for part in said[f"unlabelled.{view}"].values():
        part *= 0.25

    if view not in needs.votes:
      assert not differ(plain, answers(case, other)), view
  assert {"weak"} <= {*needs.votes} <= {*needs.views}


@pytest.mark.parametrize("name", wrappers.names())
def test_a_wrapper_that_goes_by_labelled_counts_says_what_it_does_of_even_ones(name):
  method = wrappers.wrap(tiny.method("fixmatch"), {"name": name})
  even, other = (
    method.init(SIZES._replace(labelled_counts=counts))
    for counts in ((2, 2, 2), (4, 1, 1))
  )
  same = all(
    np.array_equal(a, b)
    for a, b in zip(*map(jax.tree.leaves, (even, other)), strict=True)
  )
  assert bool(wrappers.of_even_classes(name)) != same
