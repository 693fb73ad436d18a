"""ABC over methods against arXiv 2110.10368, in plain Python."""

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


def balanced(random, outputs, name, classes, step):
  """Adds outputs of the extra head for each view."""
  for view, view_outputs in outputs.items():
    view_outputs[name] = fake.random_logits(
      random, len(view_outputs["logits"]), classes
    )
    # So that no gradient is 0 but of a text that is not in.
    view_outputs[name] = view_outputs[name] + np.arange(classes) / 16
    if view == "unlabelled.weak":
      view_outputs[name][:, 0] -= 30 * (step == 1)  # a class nobody predicts
      view_outputs[name] *= [1, 1, 0.01, 1, 1, 1][step % 6]  # nobody sure
      if step == 3:
        view_outputs[name] = 50 * np.eye(classes)[np.arange(U) % classes]  # all


def chances(label, q, counts, progress):
  """The probability of each text to be in the balanced sample."""
  share = [min(counts) / count for count in counts]
  own = [share[fake.argmax(y)] for y in label]
  more = [
    (max(p) >= THRESHOLD) * (1 - progress * (1 - share[fake.argmax(p)])) for p in q
  ]
  return own, more


@pytest.mark.slow
@pytest.mark.parametrize("inner", wrapped.INNER)
@pytest.mark.parametrize("classes", [2, 5])
def test_equals_the_equations(inner, classes):
  random, counts = np.random.default_rng(classes), COUNTS[classes]
  method = abc.make(wrapped.method(inner), SHARE, THRESHOLD)
  take, name = fake.stepper(method), head(method)
  state = method.init(wrapped.sizes(classes, counts))
  np.testing.assert_allclose(state.share, [min(counts) / n for n in counts], rtol=1e-6)
  rule, drawn = wrapped.reference(inner, classes), 0
  for step, (outputs, label, index) in enumerate(wrapped.scenes(random, classes)):
    balanced(random, outputs, name, classes, step)
    progress = step / 5
    result = take(state, outputs, label, index, step, progress)
    state = result.state
    q = [fake.softmax(row) for row in outputs["unlabelled.weak"][name]]
    own, more = chances(label, q, counts, progress)
    loss = 0.0
    views = {"labelled.weak": (label, own), "unlabelled.strong": (q, more)}
    for view, (target, chance) in views.items():
      rows, found = outputs[view][name], np.asarray(result.gradient[view][name])
      taken = np.any(found != 0, axis=-1)
      for i, is_in in enumerate(taken):
        assert is_in or chance[i] < 1
        assert not is_in or chance[i] > 0
        slope = (
          SHARE * is_in * np.array(fake.ce_gradient(rows[i], target[i])) / len(rows)
        )
        np.testing.assert_allclose(found[i], slope, rtol=1e-3, atol=1e-6)
        loss += SHARE * is_in * fake.cross_entropy(rows[i], target[i]) / len(rows)
        drawn += 0 < chance[i] < 1
    assert not np.any(result.gradient["unlabelled.weak"][name])
    taught = rule.step(outputs["unlabelled.weak"]["logits"])
    expected = wrapped.Expected(taught, wrapped.trained_logits(outputs), label)
    added = {key: result.totals[key] for key in result.totals.keys() - expected.totals}
    assert sum(added.values()) == pytest.approx(loss, rel=1e-4)
    expected.check(result, **added)
    confident = {max(p) >= THRESHOLD for p in q}
    if step in (2, 3):
      assert confident == {step == 3}
  assert drawn > 20


def sample(progress, confident=True, threshold=0.95, steps=60):
  """Which texts are in the balanced sample: bool [steps, U], labelled and unlabelled.

  Text i is of class i % 4; text i of both sets is of row i.
  """
  classes, counts = 4, (16, 8, 4, 2)
  method = abc.make(wrapped.method("fixmatch"), threshold=threshold)
  take, name = fake.stepper(method), head(method)
  state = method.init(wrapped.sizes(classes, counts))
  random = np.random.default_rng(0)
  outputs, _, _ = next(wrapped.scenes(random, classes))
  label = np.eye(classes)[np.arange(U) % classes]
  outputs["labelled.weak"]["logits"] = outputs["unlabelled.weak"]["logits"]
  for view_outputs in outputs.values():
    view_outputs[name] = 0.25 * np.arange(classes) + np.zeros((U, 1))
  outputs["unlabelled.weak"][name] = (9.0 if confident else 1.0) * label
  taken = {"labelled.weak": [], "unlabelled.strong": []}
  for step in range(steps):
    result = take(state, outputs, label, np.arange(U), step, progress)
    for view, rows in taken.items():
      rows.append(np.any(np.asarray(result.gradient[view][name]) != 0, axis=-1))
  return [np.array(rows) for rows in taken.values()]


def by_class(taken):
  return [taken[:, c::4].mean() for c in range(4)]


def test_labelled_samples_are_balanced():
  own, _ = sample(0.0)
  # 360 draws each: four times the deviation.
  np.testing.assert_allclose(by_class(own), [1 / 8, 1 / 4, 1 / 2, 1], atol=0.11)
  assert np.all(own[:, 3::4])


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_unlabelled_samples_get_more_balanced_over_the_run(progress):
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


def test_the_probability_belongs_to_the_predicted_class():
  _, more = sample(1.0, confident=False, threshold=0.4)  # q is 0.475 of it
  np.testing.assert_allclose(by_class(more), [1 / 8, 1 / 4, 1 / 2, 1], atol=0.11)


def test_unconfident_unlabelled_texts_are_not_sampled():
  _, more = sample(0.0, confident=False, steps=2)
  assert not np.any(more)


def test_the_extra_head_predicts():
  method = abc.make(wrapped.method("fixmatch"))
  outputs = np.random.default_rng(0).normal(size=(2, 4, 3))
  model_outputs = Outputs(outputs[0], None, {head(method): outputs[1]})
  np.testing.assert_array_equal(method.predict(model_outputs), outputs[1])


def test_the_method_itself_is_unchanged():
  """The extra head adds terms, and changes nothing that the method reads."""
  random = np.random.default_rng(0)
  method = abc.make(wrapped.method("softmatch"), scale=0.0)
  take, name = fake.stepper(method), head(method)
  state = method.init(wrapped.sizes(3))
  plainly = fake.stepper(wrapped.method("softmatch"))
  alone = wrapped.method("softmatch").init(wrapped.sizes(3))
  for step, (outputs, label, index) in enumerate(wrapped.scenes(random, 3)):
    expected = plainly(alone, outputs, label, index, step)
    balanced(random, outputs, name, 3, step)
    result = take(state, outputs, label, index, step)
    state, alone = result.state, expected.state
    added = dict.fromkeys(result.totals.keys() - expected.totals, 0.0)
    assert result.totals == expected.totals | added
    np.testing.assert_array_equal(result.assigned.weight, expected.assigned.weight)
