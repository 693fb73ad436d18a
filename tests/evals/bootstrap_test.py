"""Resamples, and metrics on them, compared with scikit-learn's sample weights."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from ssljax.evals import bootstrap, classification, thresholds
from ssljax.evals.bootstrap import RankingMetrics


def random_scores(seed: int, n: int = 80):
  """A score with ties, which texts are positive, and counts, some of them 0."""
  random = np.random.default_rng(seed)
  score = np.round(random.random(n) * 10) / 10
  positive = random.random(n) < 0.3 + 0.4 * score
  return score, positive, random.integers(0, 4, (5, n)).astype(float)


def test_resamples_have_n_texts_and_are_reproducible():
  counts = np.concatenate(list(bootstrap.draw_resamples(700, 3000, seed=2)))
  assert counts.shape == (3000, 700)
  assert (counts.sum(1) == 700).all()
  again = np.concatenate(list(bootstrap.draw_resamples(700, 3000, seed=2)))
  np.testing.assert_array_equal(counts, again)
  assert not np.array_equal(counts, next(bootstrap.draw_resamples(700, 3000, seed=3)))
  # How often a text is drawn is nearly Poisson distributed.
  np.testing.assert_allclose(counts.var(0).mean(), 1, atol=0.02)
  np.testing.assert_allclose(counts.mean(0), 1, atol=0.12)


@pytest.mark.parametrize("seed", range(8))
def test_ranking_metrics_equal_scikit_learn_with_weights(seed):
  score, positive, counts = random_scores(seed)
  auroc, average_precision = RankingMetrics(score, positive)(counts)
  for r, weight in enumerate(counts):
    drawn = weight > 0  # scikit-learn counts texts of weight 0 as thresholds
    args, weights = (positive[drawn], score[drawn]), {"sample_weight": weight[drawn]}
    expected = metrics.roc_auc_score(*args, **weights)
    assert auroc[r] == pytest.approx(expected, abs=1e-12)
    expected = metrics.average_precision_score(*args, **weights)
    assert average_precision[r] == pytest.approx(expected, abs=1e-12)


def test_resamples_of_one_class_have_no_ranking():
  score, positive, _ = random_scores(0)
  counts = np.stack([positive, ~positive, np.ones(80)]).astype(float)
  for values in RankingMetrics(score, positive)(counts):
    assert np.isnan(values).tolist() == [True, True, False]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_resampled_metrics_equal_scikit_learn_with_weights(classes):
  random = np.random.default_rng(classes)
  logits = random.normal(size=(60, classes)).astype(np.float32)
  label = (logits + random.normal(size=logits.shape)).argmax(1)
  predicted = logits.argmax(1)
  counts = random.integers(0, 3, (4, 60)).astype(float)
  counts[0] = 1
  counts[1, label == 0] = 0  # a class that is not drawn
  values = classification.resampled_metrics(logits, label, [counts[:1], counts[1:]])
  expected = classification.classification_metrics(logits, label)
  assert {name: v[0] for name, v in values.items()} == pytest.approx(expected)
  for r, weight in enumerate(counts):
    drawn = np.unique(label[weight > 0])  # means are over these classes
    options = {"sample_weight": weight, "labels": drawn, "zero_division": 0.0}
    by_class = metrics.precision_recall_fscore_support(label, predicted, **options)[:3]
    expected = [v[-1] if classes == 2 else v.mean() for v in by_class]
    names = ("precision", "recall", "f1")
    assert [values[name][r] for name in names] == pytest.approx(expected, abs=1e-12)
    accuracy = metrics.accuracy_score(label, predicted, sample_weight=weight)
    assert values["accuracy"][r] == pytest.approx(accuracy, abs=1e-12)
    if len(drawn) > 1:
      assert values["macro_f1"][r] == pytest.approx(by_class[2].mean(), abs=1e-12)
      assert values["balanced_accuracy"][r] == pytest.approx(by_class[1].mean())
  one_class = [classes == 2 and r == 1 for r in range(4)]
  for name in ("macro_f1", "balanced_accuracy", "auroc", "auprc"):
    assert np.isnan(values[name]).tolist() == one_class


def test_the_percentile_interval_tolerates_5_percent_undefined_resamples():
  values = np.arange(1001) / 1000
  assert bootstrap.percentile_interval(values) == pytest.approx([0.025, 0.975])
  values[:50] = np.nan
  low, high = bootstrap.percentile_interval(values)
  assert 0.05 < low < high < 1
  values[:60] = np.nan
  assert bootstrap.percentile_interval(values) is None
  assert bootstrap.percentile_interval(np.full(9, np.nan)) is None


def test_95_percent_of_the_intervals_of_f1_contain_the_true_value():
  random = np.random.default_rng(0)
  truth_logits, truth_label = sample_population(random, 400_000)
  truth = classification.classification_metrics(truth_logits, truth_label)["f1"]
  contained = 0
  for i in range(500):
    logits, label = sample_population(random, 300)
    blocks = bootstrap.draw_resamples(300, 400, seed=i)
    cells = np.eye(4)[2 * label + logits.argmax(1)]
    confusion = np.concatenate([counts @ cells for counts in blocks])
    f1 = classification.confusion_metrics(confusion.reshape(-1, 2, 2))["f1"]
    low, high = bootstrap.percentile_interval(f1)
    contained += low <= truth <= high
  assert 465 <= contained <= 485


@pytest.mark.parametrize(("rate", "n"), [(0.002, 2000), (0.01, 500), (0.3, 200)])
def test_95_percent_of_the_intervals_of_the_false_positive_rate_contain_it(rate, n):
  # Sums over every possible number of false positives, weighted by its probability. A
  # bootstrap interval would only reach 0.906 in the first case.
  probability = stats.binom.pmf(np.arange(n + 1), n, rate)
  contained = 0.0
  harmful = np.arange(n + 1) == 0
  for k in np.flatnonzero(probability > 1e-9):
    score = (np.arange(n + 1) > n - k).astype(float)
    intervals = thresholds.rate_intervals(score, harmful, 0.5, np.zeros(1))
    low, high = intervals["false_positive_rate_interval"]
    contained += probability[k] * (low <= rate <= high)
  assert 0.93 <= contained <= 0.985


def sample_population(random, n: int):
  """Logits and labels of n texts, a third of them harmful."""
  label = (random.random(n) < 1 / 3).astype(np.int64)
  score = random.normal(size=n) + 1.5 * label - 1
  return np.stack([np.zeros(n), score], 1).astype(np.float32), label
