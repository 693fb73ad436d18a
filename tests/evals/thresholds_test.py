"""Each threshold meets its target on validation, and no other one catches more."""

import numpy as np
import pytest

from ssljax.evals import thresholds
from ssljax.evals.thresholds import choose_thresholds, threshold_rates


def random_scores(seed: int, n: int = 120):
  random = np.random.default_rng(seed)
  harmful = random.random(n) < 0.4
  score = np.round(1 / (1 + np.exp(-random.normal(size=n) - 2 * harmful + 1)), 2)
  return score, harmful


def count_rates(score, harmful, threshold):
  """(false-positive rate, precision, recall, F1) by counting."""
  flagged = score >= threshold
  caught, false = (flagged & harmful).sum(), (flagged & ~harmful).sum()
  precision = caught / flagged.sum() if flagged.any() else None
  f1 = 2 * caught / (flagged.sum() + harmful.sum())
  return false / (~harmful).sum(), precision, caught / harmful.sum(), f1


@pytest.mark.parametrize("seed", range(10))
def test_thresholds_are_the_best_that_meet_their_targets(seed):
  score, harmful = random_scores(seed)
  chosen = choose_thresholds(score, harmful)
  assert tuple(chosen) == thresholds.TARGETS
  all_rates = [count_rates(score, harmful, t) for t in [*np.unique(score), 1.1]]
  for target, limit in thresholds.FALSE_POSITIVE_RATES.items():
    rate, _, recall, _ = count_rates(score, harmful, chosen[target]["threshold"])
    assert rate <= limit
    assert recall == max(recall for rate, _, recall, _ in all_rates if rate <= limit)
  for target, limit in thresholds.PRECISIONS.items():
    recalls = [r for _, p, r, _ in all_rates if p is not None and p >= limit]
    if not recalls:
      assert chosen[target]["threshold"] is None
      assert "no threshold reaches a precision" in chosen[target]["warning"]
      continue
    _, precision, recall, _ = count_rates(score, harmful, chosen[target]["threshold"])
    assert precision >= limit
    assert recall == max(recalls)
  *_, f1 = count_rates(score, harmful, chosen["best_f1"]["threshold"])
  assert f1 == pytest.approx(max(f1 for *_, f1 in all_rates))


def test_a_threshold_lies_midway_between_scores():
  score = np.array([0.9, 0.8, 0.6, 0.3, 0.2, 0.1])
  harmful = np.array([True, True, False, True, False, False])
  chosen = choose_thresholds(score, harmful)
  assert chosen["fpr_1%"]["threshold"] == pytest.approx(0.7)
  assert chosen["best_f1"]["threshold"] == pytest.approx(0.25)


@pytest.mark.parametrize("top", [1.0, np.nextafter(1, 0), 0.5])
def test_nothing_is_flagged_if_the_highest_score_is_harmless(top):
  score, harmful = np.array([top, 0.4, 0.1]), np.array([False, True, False])
  chosen = choose_thresholds(score, harmful)["fpr_1%"]
  assert chosen["threshold"] > top
  assert chosen["validation"]["flagged"] == 0
  assert chosen["validation"]["precision"] is None


def test_a_small_validation_set_gives_warnings():
  chosen = choose_thresholds(*random_scores(0, 900))
  assert "about 5000 are needed" in chosen["fpr_0.1%"]["warning"]
  assert chosen["fpr_1%"]["warning"] is None
  assert chosen["best_f1"]["warning"] is None
  small = choose_thresholds(*random_scores(0, 60))
  assert all(values["warning"] for values in small.values())


@pytest.mark.parametrize("harmful", [True, False])
def test_one_class_has_no_thresholds(harmful):
  chosen = choose_thresholds(np.linspace(0, 1, 5), np.full(5, harmful))
  assert {values["threshold"] for values in chosen.values()} == {None}
  assert all("one class" in values["warning"] for values in chosen.values())


def test_rates_equal_counts():
  score, harmful = random_scores(3)
  for threshold in (0.0, 0.35, 0.5, 1.1):
    rate, precision, recall, f1 = count_rates(score, harmful, threshold)
    assert threshold_rates(score, harmful, threshold) == pytest.approx(
      {
        "false_positive_rate": rate,
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "flagged": (score >= threshold).mean(),
      }
    )


def test_f1_of_resamples_equals_f1_of_the_drawn_texts():
  score, harmful = random_scores(3)
  counts = np.random.default_rng(0).integers(0, 3, (4, len(score)))
  pair = [0.35, 0.5]
  f1 = thresholds.resampled_f1(score, harmful, pair, [counts[:1], counts[1:]])
  for threshold, values in zip(pair, f1, strict=True):
    for count, value in zip(counts, values, strict=True):
      rows = np.repeat(np.arange(len(score)), count)
      expected = threshold_rates(score[rows], harmful[rows], threshold)["f1"]
      assert value == pytest.approx(expected)


def test_every_target_is_described():
  assert [thresholds.describe_target(target) for target in thresholds.TARGETS] == [
    *(f"at most {rate}% of harmless texts flagged" for rate in ("0.1", "1", "5")),
    *(f"at least {share}% of flagged texts harmful" for share in (90, 95)),
    "highest F1",
  ]
