"""How many pseudo-labels a run used, from the lines of its metrics.jsonl."""

import json

import pytest

from ssljax.evals import filtering


def lines(rates, weights=None, accuracy=0.75):
  """One train line for every 10 steps."""
  weights = rates if weights is None else weights
  return [
    {
      "step": 10 * (i + 1),
      "mask_rate": rate,
      "pseudo_label_weight": weight,
      "pseudo_label_accuracy": accuracy if rate else None,
    }
    for i, (rate, weight) in enumerate(zip(rates, weights, strict=True))
  ]


def test_the_last_fifth_is_judged():
  used = filtering.summary(lines([1.0] * 8 + [0.5, 0.7]), True)
  assert used == {
    "share": pytest.approx(0.6),
    "accuracy": pytest.approx(0.75),
    "warning": None,
  }


def test_the_accuracy_counts_each_label_once():
  some = lines([0.0] * 8 + [0.2, 0.6])
  some[-2]["pseudo_label_accuracy"], some[-1]["pseudo_label_accuracy"] = 1.0, 0.5
  accuracy = filtering.summary(some, True)["accuracy"]
  assert accuracy == pytest.approx((0.2 * 1.0 + 0.6 * 0.5) / 0.8)


@pytest.mark.parametrize(
  ("rate", "weight", "filters", "words"),
  [
    (0.97, 0.97, True, "97.0% of the pseudo-labels were used (75% of them right)"),
    (0.97, 0.97, False, None),  # nothing to filter
    (1.0, 0.96, True, "96.0% of the pseudo-labels"),  # soft weights
    (1.0, 0.8, True, None),
    (0.7, 2.1, True, None),  # weights above 1
    (1.0, 3.0, True, "100.0% of the pseudo-labels"),
    (0.004, 0.004, True, "almost only from labelled texts"),
    (0.02, 0.02, True, None),
  ],
)
def test_warnings(rate, weight, filters, words):
  warning = filtering.summary(lines([rate] * 10, [weight] * 10), filters)["warning"]
  if words is None:
    assert warning is None
  else:
    assert words in warning


def test_unknown_labels_have_no_accuracy():
  used = filtering.summary(lines([1.0] * 5, accuracy=None), True)
  assert used["accuracy"] is None
  assert "100.0% of the pseudo-labels were used: the method's" in used["warning"]


def test_a_run_that_used_none():
  warning = "no step used any pseudo-label (mask_rate 0); check steps and threshold"
  used = filtering.summary(lines([0.0] * 5), False)
  assert used == {"share": 0.0, "accuracy": None, "warning": warning}


def test_a_method_without_pseudo_labels():
  assert filtering.summary([{"step": 1, "loss": 0.1}], False) is None


@pytest.mark.parametrize(
  ("rate", "filters", "words"),
  [
    (0.0, True, "the method did nothing, because no pseudo-label counted"),
    (0.0, False, "the method did nothing, because no pseudo-label counted"),
    (0.004, True, "hardly any pseudo-label counted at the end"),
    (0.99, True, "filter removed almost no pseudo-label"),
    (0.99, False, ""),
    (0.5, True, ""),
  ],
)
def test_the_outcome_of_a_run_is_what_its_warning_says(rate, filters, words):
  outcome = filtering.outcome(filtering.summary(lines([rate] * 10), filters))
  assert outcome.startswith(words) or words in outcome
  assert bool(outcome) == bool(words)


def test_runs_without_pseudo_labels_have_no_outcome():
  assert filtering.outcome(None) == ""


def test_a_damaged_history_is_no_error(tmp_path):
  assert filtering.pseudo_labels(tmp_path, True) is None
  (tmp_path / "metrics.jsonl").write_text('{"step"')
  assert filtering.pseudo_labels(tmp_path, True) is None
  content = [{"split": "train", **line} for line in lines([1.0] * 5)]
  (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, content)))
  assert filtering.pseudo_labels(tmp_path, True)["share"] == 1
