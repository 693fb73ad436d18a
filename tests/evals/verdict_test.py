"""What a report says first: which threshold to use, and which aims are missed."""

import numpy as np
import pytest

from ssljax.evals import decisions, evaluation, verdict
from ssljax.evals.scored import ScoredTexts

AIMS = ("fpr=5%", "recall=90%", "best_f1")


def texts(n, seed, skill=3.0, shift=0.0):
  random = np.random.default_rng(seed)
  label = random.integers(0, 2, n)
  margin = random.normal(size=n) + skill * (label - 0.5) + shift
  return ScoredTexts(np.stack([0 * margin, margin], 1).astype(np.float32), label)


def result(held_back, test, aims=AIMS):
  return evaluation.run_metrics(texts(200, 1), test, aims, held_back)


def test_a_promised_threshold_is_advised():
  first, *others = verdict.verdict(result(texts(500, 2), texts(400, 3)))
  assert first.kind == "good"
  assert first.text.startswith("Use the threshold 0.")
  assert (
    "(fpr=5%): at most 5% of harmless texts flagged, with 95% confidence" in first.text
  )
  assert not others


@pytest.mark.parametrize("count", [0, 40])
def test_without_enough_texts_the_verdict_says_how_many_are_needed(count):
  found = verdict.verdict(result(texts(count, 2) if count else None, texts(400, 3)))
  assert found[0].kind == "bad"
  assert "No threshold can be promised yet" in found[0].text
  assert "fpr=5% needs at least 59 harmless texts" in found[0].text
  assert ("no labelled texts were held back" in found[0].text) == (count == 0)


def test_a_missed_aim_and_worse_calibration_are_said():
  """On texts with higher scores than those that the thresholds are from."""
  measured = result(texts(500, 2), texts(400, 3, shift=2.5))
  found = [sentence.text for sentence in verdict.verdict(measured)]
  assert any(
    "fpr=5%: aim missed: " in text and "5% was asked" in text for text in found
  )
  assert not any("recall=90%: aim missed" in text for text in found)
  assert "recall=90%" in found[0]  # the promise that holds is advised
  calibrated = {"before": {"nll": 0.3}, "after": {"nll": 0.5}}
  found = verdict.verdict({**measured, "calibration": calibrated})
  assert "Calibration made the scores of the test texts worse" in found[-1].text


def test_promises_that_all_fail_are_no_advice():
  measured = result(texts(500, 2), texts(400, 3, shift=2.5), ("fpr=5%", "best_f1"))
  first = verdict.verdict(measured)[0]
  assert first.kind == "bad"
  assert "the promised ones miss their aims on the test texts" in first.text


def test_more_classes_have_no_thresholds():
  logits = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
  several = ScoredTexts(logits, np.arange(60) % 3)
  rule = evaluation.run_metrics(several, several, AIMS)
  assert rule["thresholds"] == {}
  assert verdict.verdict(rule) == []


def test_equal_thresholds_are_shown_once():
  aims = ("fpr=1%", "recall=99%", "best_f1")
  chosen = decisions.fit_rule(texts(60, 0, skill=50.0), aims).thresholds
  (names, _), *others = verdict.by_threshold(chosen)
  assert names == [*aims]
  assert not others
