"""Thresholds: each meets its aim on validation, and no other one catches more."""

import numpy as np
import pytest

from ssljax.evals import thresholds


def drawn(seed: int, n: int = 120):
  random = np.random.default_rng(seed)
  harmful = random.random(n) < 0.4
  score = np.round(1 / (1 + np.exp(-random.normal(size=n) - 2 * harmful + 1)), 2)
  return score, harmful


def shares(score, harmful, threshold):
  """(false positive rate, precision, recall, F1), by counting."""
  flagged = score >= threshold
  caught, false = (flagged & harmful).sum(), (flagged & ~harmful).sum()
  precision = caught / flagged.sum() if flagged.any() else None
  f1 = 2 * caught / (flagged.sum() + harmful.sum())
  return false / (~harmful).sum(), precision, caught / harmful.sum(), f1


@pytest.mark.parametrize("seed", range(10))
def test_thresholds_are_the_best_that_meet_their_aims(seed):
  score, harmful = drawn(seed)
  found = thresholds.choose(score, harmful)
  assert tuple(found) == thresholds.NAMES
  every = [shares(score, harmful, t) for t in [*np.unique(score), 1.1]]
  for name, most in thresholds.FALSE_POSITIVE_RATES.items():
    own = shares(score, harmful, found[name]["threshold"])
    assert own[0] <= most
    assert own[2] == max(recall for rate, _, recall, _ in every if rate <= most)
  for name, least in thresholds.PRECISIONS.items():
    good = [r for _, p, r, _ in every if p is not None and p >= least]
    if not good:
      assert found[name]["threshold"] is None
      assert "no threshold has a precision" in found[name]["warning"]
      continue
    own = shares(score, harmful, found[name]["threshold"])
    assert own[1] >= least
    assert own[2] == max(good)
  own = shares(score, harmful, found["best_f1"]["threshold"])
  assert own[3] == pytest.approx(max(f1 for *_, f1 in every))


def test_a_threshold_lies_between_scores():
  score = np.array([0.9, 0.8, 0.6, 0.3, 0.2, 0.1])
  harmful = np.array([True, True, False, True, False, False])
  found = thresholds.choose(score, harmful)
  assert found["fpr_1%"]["threshold"] == pytest.approx(0.7)
  assert found["best_f1"]["threshold"] == pytest.approx(0.25)


@pytest.mark.parametrize("top", [1.0, np.nextafter(1, 0), 0.5])
def test_where_the_highest_score_is_harmless_nothing_is_flagged(top):
  score, harmful = np.array([top, 0.4, 0.1]), np.array([False, True, False])
  found = thresholds.choose(score, harmful)["fpr_1%"]
  assert found["threshold"] > top
  assert found["validation"]["flagged"] == 0
  assert found["validation"]["precision"] is None


def test_too_small_a_validation_set_is_said():
  score, harmful = drawn(0, 900)
  found = thresholds.choose(score, harmful)
  assert "it takes 5000 to tell" in found["fpr_0.1%"]["warning"]
  assert found["fpr_1%"]["warning"] is None
  assert found["best_f1"]["warning"] is None
  small = thresholds.choose(*drawn(0, 60))
  assert all(one["warning"] for one in small.values())


def test_one_class_has_no_thresholds():
  for harmful in (np.ones(5, bool), np.zeros(5, bool)):
    found = thresholds.choose(np.linspace(0, 1, 5), harmful)
    assert {one["threshold"] for one in found.values()} == {None}
    assert all("one class" in one["warning"] for one in found.values())


def test_measured_counts_and_resamples_agree():
  score, harmful = drawn(3)
  for threshold in (0.0, 0.35, 0.5, 1.1):
    found = thresholds.measured(score, harmful, threshold)
    rate, precision, recall, f1 = shares(score, harmful, threshold)
    assert found == pytest.approx(
      {
        "false_positive_rate": rate,
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "flagged": (score >= threshold).mean(),
      }
    )
  random = np.random.default_rng(0)
  counts = random.integers(0, 3, (4, len(score)))
  drawn_ = thresholds.resampled(score, harmful, [0.35, 0.5], [counts[:1], counts[1:]])
  for threshold, values in zip([0.35, 0.5], drawn_, strict=True):
    for r, count in enumerate(counts):
      rows = np.repeat(np.arange(len(score)), count)
      wanted = thresholds.measured(score[rows], harmful[rows], threshold)
      assert {name: v[r] for name, v in values.items()} == pytest.approx(wanted)
