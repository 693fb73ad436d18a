"""Compares methods on one dataset by paired bootstrap over its test texts.

All runs are evaluated on the same resamples of the test texts, so texts that are hard
for both methods don't widen the interval of the difference between the methods.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from ssljax.evals import bootstrap
from ssljax.evals.classification import resampled_metrics
from ssljax.evals.groups import Group

LEVEL = 0.05  # of corrected p-values, below which a difference is clear


class DifferentTexts(ValueError):
  """Two runs were tested on different texts."""


class Difference(NamedTuple):
  """How much better `method` is than `other` on the same test texts."""

  method: str
  other: str
  value: float  # difference between the means over seeds
  interval: list[float] | None  # 95%, over texts
  p_value: float | None  # two-sided, for the hypothesis of no difference


def are_clear(differences: Sequence[Difference]) -> list[bool]:
  """Whether each difference is clear: unlikely to be due to the choice of test texts.

  The p-values are corrected for their number by Benjamini and Hochberg's procedure: of
  the differences that are called clear, 5% are expected not to exist. A difference
  without a p-value isn't clear.
  """
  known = [d.p_value for d in differences if d.p_value is not None]
  corrected = iter(stats.false_discovery_control(known) if known else ())
  return [d.p_value is not None and next(corrected) < LEVEL for d in differences]


def paired_differences(groups: Sequence[Group], metric: str = "f1") -> list[Difference]:
  """Compares each group with all earlier groups; all groups share a dataset.

  Seeds are treated as fixed, texts as sampled. The metric of every run is computed on
  each resample; then the groups' means over seeds are compared.

  Raises:
    DifferentTexts: the runs were not tested on the same texts.
    UserError: predictions cannot be read.
  """
  resampled = resampled_means(groups, metric)
  differences = []
  for b, a in itertools.combinations(range(len(groups)), 2):
    value = np.mean(groups[a].values(metric)) - np.mean(groups[b].values(metric))
    gap = resampled[a] - resampled[b]
    interval, p_value = bootstrap.percentile_interval(gap), None
    if interval:
      defined = gap[~np.isnan(gap)]
      opposite = min(np.mean(defined <= 0), np.mean(defined >= 0))
      # n resamples can't show a p-value below 2 / n, so 2 / n is the minimum.
      p_value = float(min(1.0, 2 * max(opposite, 1 / len(defined))))
    names = groups[a].name, groups[b].name
    differences.append(Difference(*names, float(value), interval, p_value))
  return differences


def resampled_means(groups: Sequence[Group], metric: str) -> np.ndarray:
  """Each group's mean over seeds on each resample, f64 [groups, R]."""
  first, means = None, []
  for group in groups:
    values = []
    for run in group.runs:
      test = run.predictions()
      first = first or (run.workdir, test)
      if test.id != first[1].id or not np.array_equal(test.label, first[1].label):
        raise DifferentTexts(
          f"{run.workdir} and {first[0]} were tested on different texts, so they "
          "cannot be compared text by text"
        )
      blocks = bootstrap.draw_resamples(len(test.label))
      values.append(resampled_metrics(test.logits, test.label, blocks)[metric])
    means.append(np.mean(values, axis=0))
  return np.array(means)
