"""Resamples, and the metrics under them, against scikit-learn with sample weights."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from ssljax.evals import bootstrap, classification, thresholds
from ssljax.evals.bootstrap import Ranking


def drawn(seed: int, n: int = 80):
  """A score with ties, what is positive, counts of which some are 0."""
  random = np.random.default_rng(seed)
  score = np.round(random.random(n) * 10) / 10
  positive = random.random(n) < 0.3 + 0.4 * score
  return score, positive, random.integers(0, 4, (5, n)).astype(float)


def test_resamples_are_of_n_texts_and_the_same_each_time():
  some = np.concatenate(list(bootstrap.resamples(700, 3000, seed=2)))
  assert some.shape == (3000, 700)
  assert (some.sum(1) == 700).all()
  again = np.concatenate(list(bootstrap.resamples(700, 3000, seed=2)))
  np.testing.assert_array_equal(some, again)
  assert not np.array_equal(some, next(bootstrap.resamples(700, 3000, seed=3)))
  # A text is drawn a Poisson number of times, nearly.
  np.testing.assert_allclose(some.var(0).mean(), 1, atol=0.02)
  np.testing.assert_allclose(some.mean(0), 1, atol=0.12)


@pytest.mark.parametrize("seed", range(8))
def test_ranking_equals_scikit_learn_with_weights(seed):
  score, positive, counts = drawn(seed)
  auroc, average = Ranking(score, positive)(counts)
  for r, weight in enumerate(counts):
    keep = weight > 0  # scikit-learn gives a text of no weight a threshold of its own
    given = positive[keep], score[keep]
    assert auroc[r] == pytest.approx(
      metrics.roc_auc_score(*given, sample_weight=weight[keep]), abs=1e-12
    )
    assert average[r] == pytest.approx(
      metrics.average_precision_score(*given, sample_weight=weight[keep]), abs=1e-12
    )


def test_a_resample_of_one_class_has_no_ranking():
  score, positive, _ = drawn(0)
  counts = np.stack([positive, ~positive, np.ones(80)]).astype(float)
  for values in Ranking(score, positive)(counts):
    assert np.isnan(values).tolist() == [True, True, False]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_metrics_of_counts_equal_scikit_learn_with_weights(classes):
  random = np.random.default_rng(classes)
  logits = random.normal(size=(60, classes)).astype(np.float32)
  label = (logits + random.normal(size=logits.shape)).argmax(1)
  predicted = logits.argmax(1)
  counts = random.integers(0, 3, (4, 60)).astype(float)
  counts[0] = 1
  counts[1, label == 0] = 0  # a class that is not drawn
  found = classification.resampled(logits, label, [counts[:1], counts[1:]])
  whole = classification.classification(logits, label)
  assert {name: values[0] for name, values in found.items()} == pytest.approx(whole)
  for r, weight in enumerate(counts):
    there = np.unique(label[weight > 0])  # means are over these
    given = {"sample_weight": weight, "labels": there, "zero_division": 0.0}
    each = metrics.precision_recall_fscore_support(label, predicted, **given)[:3]
    wanted = [v[-1] if classes == 2 else v.mean() for v in each]
    names = ("precision", "recall", "f1")
    assert [found[name][r] for name in names] == pytest.approx(wanted, abs=1e-12)
    assert found["accuracy"][r] == pytest.approx(
      metrics.accuracy_score(label, predicted, sample_weight=weight), abs=1e-12
    )
    if len(there) > 1:
      assert found["macro_f1"][r] == pytest.approx(each[2].mean(), abs=1e-12)
      assert found["balanced_accuracy"][r] == pytest.approx(each[1].mean())
  lone = [classes == 2 and r == 1 for r in range(4)]  # one class only
  for name in ("macro_f1", "balanced_accuracy", "auroc", "auprc"):
    assert np.isnan(found[name]).tolist() == lone


def test_the_interval_is_the_middle_and_none_where_too_much_is_undefined():
  values = np.arange(1001) / 1000
  assert bootstrap.interval(values) == pytest.approx([0.025, 0.975])
  assert bootstrap.interval(values, 0.5) == pytest.approx([0.25, 0.75])
  values[:50] = np.nan
  low, high = bootstrap.interval(values)
  assert 0.05 < low < high < 1
  values[:60] = np.nan
  assert bootstrap.interval(values) is None
  assert bootstrap.interval(np.full(9, np.nan)) is None


def test_95_percent_intervals_of_f1_hold_the_truth_in_95_percent_of_test_sets():
  random = np.random.default_rng(0)
  truth_logits, truth_label = population(random, 400_000)
  truth = classification.classification(truth_logits, truth_label)["f1"]
  held = 0
  for i in range(1000):
    logits, label = population(random, 300)
    blocks = bootstrap.resamples(300, 400, seed=i)
    cell = 2 * label + logits.argmax(1)
    confusion = np.concatenate([bootstrap.cells(c, cell, 4) for c in blocks])
    f1 = classification.of_confusion(confusion.reshape(-1, 2, 2))["f1"]
    low, high = bootstrap.interval(f1)
    held += low <= truth <= high
  assert 930 <= held <= 970


@pytest.mark.parametrize(("rate", "n"), [(0.002, 2000), (0.01, 500), (0.3, 200)])
def test_95_percent_intervals_of_false_alarms_hold_the_truth(rate, n):
  # All that can come out, by its probability; of the first a bootstrap holds 0.906.
  alarms = np.arange(n + 1)
  likely = stats.binom.pmf(alarms, n, rate)
  held = 0.0
  for k in alarms[likely > 1e-9]:
    score, harmful = (
      (np.arange(n + 1) >= n + 1 - k).astype(float),
      np.zeros(n + 1, bool),
    )
    harmful[0] = True
    low, high = thresholds.intervals(score, harmful, 0.5)[
      "false_positive_rate_interval"
    ]
    held += likely[k] * (low <= rate <= high)
  assert 0.93 <= held <= 0.985


def population(random, n: int):
  """Logits and labels of n texts, a third of them harmful."""
  label = (random.random(n) < 1 / 3).astype(np.int64)
  score = random.normal(size=n) + 1.5 * label - 1
  return np.stack([np.zeros(n), score], 1).astype(np.float32), label
