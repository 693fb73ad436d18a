"""Each threshold meets its aim on its texts, and no other one catches more."""

import numpy as np
import pytest

from ssljax.aims import parse
from ssljax.evals import thresholds
from ssljax.evals.thresholds import Scored, choose, threshold_rates


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


AIMS = ["fpr=1%", "fpr=5%", "precision=90%", "recall=80%", "review=20%", "best_f1"]
AIMS += ["cost=10:1", "cost=1:3"]


def best_value(aim, score, harmful, threshold):
  """(whether a threshold meets an aim, what it should maximise)."""
  fpr, precision, recall, f1 = count_rates(score, harmful, threshold)
  flagged = score >= threshold
  missed, false = (harmful & ~flagged).sum(), (flagged & ~harmful).sum()
  return {
    "fpr": (fpr <= aim.value, recall),
    "precision": ((precision or 0) >= aim.value, recall),
    "review": (flagged.mean() <= aim.value, recall),
    "recall": (recall >= aim.value, -flagged.sum()),
    "cost": (True, -(aim.value * missed + false)),
    "best_f1": (True, f1),
  }[aim.kind]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", AIMS)
def test_a_threshold_is_the_best_that_meets_its_aim(seed, name):
  score, harmful = random_scores(seed)
  aim = parse(name)
  found = [best_value(aim, score, harmful, t) for t in [*np.unique(score), 1.1]]
  threshold = choose(aim, Scored(score, harmful))
  if threshold is None:
    assert not any(met for met, _ in found)
    return
  met, value = best_value(aim, score, harmful, threshold)
  assert met
  assert value == pytest.approx(max(value for met, value in found if met))


def test_a_threshold_lies_midway_between_scores():
  score = np.array([0.9, 0.8, 0.6, 0.3, 0.2, 0.1])
  harmful = np.array([True, True, False, True, False, False])
  texts = Scored(score, harmful)
  assert choose(parse("fpr=1%"), texts) == pytest.approx(0.7)
  assert choose(parse("best_f1"), texts) == pytest.approx(0.25)


@pytest.mark.parametrize("top", [1.0, np.nextafter(1, 0), 0.5])
def test_nothing_is_flagged_if_the_highest_score_is_harmless(top):
  texts = Scored(np.array([top, 0.4, 0.1]), np.array([False, True, False]))
  assert choose(parse("fpr=1%"), texts) > top


@pytest.mark.parametrize("harmful", [True, False])
def test_one_class_has_no_thresholds(harmful):
  texts = Scored(np.linspace(0, 1, 5), np.full(5, harmful))
  assert {choose(aim, texts) for aim in map(parse, AIMS)} == {None}


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
