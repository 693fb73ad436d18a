"""What a report says first: which threshold to use, and which aims are missed."""

import numpy as np
import pytest

from ssljax import aims
from ssljax.evals import decisions, evaluation, thresholds, verdict
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


def entry(aim, **values):
  needed = list(thresholds.needed_texts(aims.parse(aim)))
  known = {"promise": None, "tightest": None, "needed": needed, "threshold": 0.5}
  return {**known, **values}


CALIBRATED = {"calibration": {"before": {"nll": 0.5}, "after": {"nll": 0.5}}}


def first(**entries):
  return verdict.verdict({"thresholds": entries, **CALIBRATED})[0]


def test_the_count_belongs_to_the_aim_that_is_named():
  counted = entry("recall=95%", tightest={"texts": 12, "errors": 0})
  text = first(**{"fpr=1%": entry("fpr=1%"), "recall=95%": counted}).text
  assert "only 12 harmful texts were held back, too few for recall=95%" in text
  assert "recall=95% needs at least 59 harmful texts" in text


def test_enough_flagged_texts_may_be_too_often_harmless():
  counted = entry("precision=90%", tightest={"texts": 300, "errors": 60})
  text = first(**{"precision=90%": counted}).text
  assert (
    "flags 300 of the texts that were held back, and 60 of them are harmless" in text
  )
  assert "too few" not in text


def test_a_promised_threshold_that_finds_nothing_is_not_advised():
  made = {"confidence": 0.95, "errors": 0, "texts": 300, "recall": 0.0}
  rates = {"false_positive_rate": 0.0, "false_positive_rate_interval": [0.0, 0.01]}
  useless = entry("fpr=1%", promise=made, recall=0.0, **rates)
  sentence = first(**{"fpr=1%": useless})
  assert sentence.kind == "bad"
  assert (
    "No threshold is advised: fpr=1% can be promised, but only where" in sentence.text
  )
  useful = entry("fpr=5%", promise=made, recall=0.5, **rates, threshold=0.99991)
  sentence = first(**{"fpr=1%": useless, "fpr=5%": useful})
  assert sentence.kind == "good"
  assert "Use the threshold 0.99991 (fpr=5%)" in sentence.text


def test_promises_that_depend_on_the_share_of_harmful_texts_say_so():
  made = {"confidence": 0.95, "errors": 2, "texts": 300, "recall": 0.5}
  for aim, expected in (("precision=90%", True), ("recall=95%", False)):
    known = entry(aim, promise=made, recall=0.5, false_positive_rate=0.1)
    text = first(**{aim: known}).text
    assert ("the same share of harmful ones" in text) == expected


def test_a_refused_precision_names_the_harmless_texts():
  label = np.arange(2000) % 2
  margin = np.where(np.arange(2000) % 5 == 0, 1 - 2 * label, 2 * label - 1)  # 80% right
  logits = np.stack([0 * margin, margin], 1).astype(np.float32)
  held_back = ScoredTexts(logits, label)
  rule = decisions.fit_rule(held_back, ["precision=90%"], held_back)
  warning = rule.thresholds["precision=90%"]["warning"]
  assert "flags 1,000 texts of calibration, and 200 of them are harmless" in warning
  assert "needs 59 flagged texts, all of them harmful" in warning


def test_texts_of_one_class_say_how_many_are_missing():
  margin = np.linspace(-3, 1, 100)
  logits = np.stack([0 * margin, margin], 1).astype(np.float32)
  harmless = ScoredTexts(logits, np.zeros(100, np.int64))
  own = decisions.scored(harmless, 1.0)
  refused = decisions.choose(aims.parse("fpr=1%"), own, own, 1.0, "fresh.csv")
  assert refused["threshold"] is None
  assert "100 harmless texts of fresh.csv can't promise" in refused["warning"]
  assert "needs 299 of them" in refused["warning"]
