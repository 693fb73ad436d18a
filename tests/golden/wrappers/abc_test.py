"""ABC around methods, against arXiv 2110.10368, a text and a class at a time."""

import numpy as np
import pytest

from ssljax.method import Outputs
from ssljax.wrappers import abc
from tests.golden import fake, wrapped

SHARE, THRESHOLD = 0.6, 0.7
COUNTS = {2: (12, 3), 5: (20, 10, 5, 4, 2)}
B, U = wrapped.B, wrapped.U


def head(method) -> str:
  """The extra head."""
  (name,) = method.needs.heads
  return name


def balanced(random, said, name, classes, step):
  """Adds what the extra head says of each view, in scenes of its own."""
  for view, heard in said.items():
    heard[name] = fake.logits(random, len(heard["logits"]), classes)
    # So that no gradient is 0 but of a text that is not in.
    heard[name] = heard[name] + np.arange(classes) / 16
    if view == "unlabelled.weak":
      heard[name][:, 0] -= 30 * (step == 1)  # a class nobody predicts
      heard[name] *= [1, 1, 0.01, 1, 1, 1][step % 6]  # nobody sure
      if step == 3:
        heard[name] = 50 * np.eye(classes)[np.arange(U) % classes]  # all


def chances(label, q, counts, progress):
  """With what probability each text is in the balanced sample."""
  share = [min(counts) / count for count in counts]
  own = [share[fake.first_largest(y)] for y in label]
  more = [
    (max(p) >= THRESHOLD) * (1 - progress * (1 - share[fake.first_largest(p)]))
    for p in q
  ]
  return own, more


@pytest.mark.parametrize("inner", wrapped.INNER)
@pytest.mark.parametrize("classes", [2, 5])
def test_equals_the_equations(inner, classes):
  random, counts = np.random.default_rng(classes), COUNTS[classes]
  method = abc.make(wrapped.method(inner), SHARE, THRESHOLD)
  take, name = fake.stepper(method), head(method)
  state = method.init(wrapped.sizes(classes, counts))
  np.testing.assert_allclose(state.share, [min(counts) / n for n in counts], rtol=1e-6)
  rule, drawn = wrapped.reference(inner, classes), 0
  for step, (said, label, index) in enumerate(wrapped.scenes(random, classes)):
    balanced(random, said, name, classes, step)
    progress = step / 5
    result = take(state, said, label, index, step, progress)
    state = result.state
    q = [fake.softmax(row) for row in said["unlabelled.weak"][name]]
    own, more = chances(label, q, counts, progress)
    loss = 0.0
    views = {"labelled.weak": (label, own), "unlabelled.strong": (q, more)}
    for view, (target, chance) in views.items():
      rows, found = said[view][name], np.asarray(result.gradient[view][name])
      taken = np.any(found != 0, axis=-1)
      for i, is_in in enumerate(taken):
        assert is_in or chance[i] < 1
        assert not is_in or chance[i] > 0
        slope = SHARE * is_in * np.array(fake.slope(rows[i], target[i])) / len(rows)
        np.testing.assert_allclose(found[i], slope, rtol=1e-3, atol=1e-6)
        loss += SHARE * is_in * fake.surprise(rows[i], target[i]) / len(rows)
        drawn += 0 < chance[i] < 1
    assert not np.any(result.gradient["unlabelled.weak"][name])
    taught = rule.step(said["unlabelled.weak"]["logits"])
    expected = wrapped.Expected(taught, wrapped.heard(said), label)
    added = {key: result.totals[key] for key in result.totals.keys() - expected.totals}
    assert sum(added.values()) == pytest.approx(loss, rel=1e-4)
    expected.check(result, **added)
    sure = {max(p) >= THRESHOLD for p in q}
    if step in (2, 3):
      assert sure == {step == 3}
  assert drawn > 20


def sample(progress, sure=True, threshold=0.95, steps=60):
  """Who is in the balanced sample: bool [steps, U] of labelled and unlabelled texts.

  Text i is of class i % 4; text i of both sets is of row i.
  """
  classes, counts = 4, (16, 8, 4, 2)
  method = abc.make(wrapped.method("fixmatch"), threshold=threshold)
  take, name = fake.stepper(method), head(method)
  state = method.init(wrapped.sizes(classes, counts))
  random = np.random.default_rng(0)
  said, _, _ = next(wrapped.scenes(random, classes))
  label = np.eye(classes)[np.arange(U) % classes]
  said["labelled.weak"]["logits"] = said["unlabelled.weak"]["logits"]
  for heard in said.values():
    heard[name] = 0.25 * np.arange(classes) + np.zeros((U, 1))
  said["unlabelled.weak"][name] = (9.0 if sure else 1.0) * label
  taken = {"labelled.weak": [], "unlabelled.strong": []}
  for step in range(steps):
    result = take(state, said, label, np.arange(U), step, progress)
    for view, rows in taken.items():
      rows.append(np.any(np.asarray(result.gradient[view][name]) != 0, axis=-1))
  return [np.array(rows) for rows in taken.values()]


def by_class(taken):
  return [taken[:, c::4].mean() for c in range(4)]


def test_labelled_texts_are_drawn_so_that_classes_are_alike():
  own, _ = sample(0.0)
  # 360 draws each: four times the deviation.
  np.testing.assert_allclose(by_class(own), [1 / 8, 1 / 4, 1 / 2, 1], atol=0.11)
  assert np.all(own[:, 3::4])


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_unlabelled_texts_are_drawn_the_more_evenly_the_later(progress):
  own, more = sample(progress)
  share = np.array([1 / 8, 1 / 4, 1 / 2, 1])
  found = by_class(more)
  np.testing.assert_allclose(found, 1 - progress * (1 - share), atol=0.11)
  if progress == 0.0:
    assert np.all(more)
  # Texts, steps, and the two parts are drawn apart from each other.
  assert len({tuple(row) for row in own}) > 50
  if progress == 1.0:
    pairs = own[:, 0::4].astype(int), more[:, 0::4].astype(int)
    together = (pairs[0] * pairs[1]).mean()
    np.testing.assert_allclose(together, 1 / 64, atol=0.03)
    alike = (own[:, 0] == own[:, 4]).mean()
    assert alike < 0.95


def test_the_chance_is_that_of_the_likeliest_class():
  _, more = sample(1.0, sure=False, threshold=0.4)  # q is 0.475 of it
  np.testing.assert_allclose(by_class(more), [1 / 8, 1 / 4, 1 / 2, 1], atol=0.11)


def test_unlabelled_texts_that_are_not_sure_are_out():
  _, more = sample(0.0, sure=False, steps=2)
  assert not np.any(more)


def test_the_extra_head_predicts():
  method = abc.make(wrapped.method("fixmatch"))
  said = np.random.default_rng(0).normal(size=(2, 4, 3))
  outputs = Outputs(said[0], None, {head(method): said[1]})
  np.testing.assert_array_equal(method.predict(outputs), said[1])


def test_the_method_learns_as_if_alone():
  """The extra head adds a term; it changes nothing that the method reads."""
  random = np.random.default_rng(0)
  method = abc.make(wrapped.method("softmatch"), scale=0.0)
  take, name = fake.stepper(method), head(method)
  state = method.init(wrapped.sizes(3))
  plainly = fake.stepper(wrapped.method("softmatch"))
  alone = wrapped.method("softmatch").init(wrapped.sizes(3))
  for step, (said, label, index) in enumerate(wrapped.scenes(random, 3)):
    expected = plainly(alone, said, label, index, step)
    balanced(random, said, name, 3, step)
    result = take(state, said, label, index, step)
    state, alone = result.state, expected.state
    added = dict.fromkeys(result.totals.keys() - expected.totals, 0.0)
    assert result.totals == expected.totals | added
    np.testing.assert_array_equal(result.assigned.weight, expected.assigned.weight)
