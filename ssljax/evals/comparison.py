"""Compares methods on one dataset by paired bootstrap over its test texts.

All runs are evaluated on the same resamples of the test texts, so texts that are hard
for both methods don't widen the interval of their difference.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssljax.evals import bootstrap, classification
from ssljax.evals.groups import Group


class DifferentTexts(ValueError):
  """Two runs were tested on different texts."""


class Difference(NamedTuple):
  """How much better `method` is than `other` on the same test texts."""

  method: str
  other: str
  value: float  # difference of the means over seeds
  interval: list[float] | None  # 95%, over texts
  p_value: float | None  # two-sided, of no difference; None if the interval is None


def paired_differences(groups: Sequence[Group], metric: str = "f1") -> list[Difference]:
  """Compares each group with each group before it; all share a dataset.

  Seeds are treated as fixed and texts as sampled: each resample gives the metric of
  every run, and the means over the seeds of two groups are compared.

  Raises:
    DifferentTexts: the runs were not tested on the same texts.
    UserError: predictions cannot be read.
  """
  means = resampled_means(groups, metric)
  differences = []
  for b, a in itertools.combinations(range(len(groups)), 2):
    gap = means[a] - means[b]
    value = np.mean(groups[a].values(metric)) - np.mean(groups[b].values(metric))
    interval, defined = bootstrap.percentile_interval(gap), gap[~np.isnan(gap)]
    p_value = None
    if interval:
      below, above = np.mean(defined <= 0), np.mean(defined >= 0)
      # At least one resample: a p-value of 0 would claim more than they can show.
      p_value = float(min(1.0, 2 * max(min(below, above), 1 / len(defined))))
    names = groups[a].name, groups[b].name
    differences.append(Difference(*names, float(value), interval, p_value))
  return differences


def resampled_means(groups: Sequence[Group], metric: str) -> np.ndarray:
  """The mean over the seeds of each group on the same resamples, f64 [groups, R].

  Raises:
    DifferentTexts: the runs were not tested on the same texts.
  """
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
      resampled = classification.resampled_metrics(test.logits, test.label, blocks)
      values.append(resampled[metric])
    means.append(np.mean(values, axis=0))
  return np.array(means)
