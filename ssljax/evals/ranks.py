"""Ranks methods over several datasets and applies the Friedman test (Demsar 2006)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from ssljax.evals.groups import Group, mean_and_deviation


class Ranks(NamedTuple):
  """Average ranks of methods over all datasets, at one budget."""

  labels: int  # the budget
  methods: list[str]
  data: list[str]
  value: np.ndarray  # f64 [methods, data], means over seeds
  rank: np.ndarray  # f64 [methods], average; 1 is the best
  p_value: float | None  # of the Friedman test
  no_test: str  # why there is no p-value; otherwise empty
  unranked: list[str]  # methods that lack a run or the metric on some dataset


def average_ranks(
  groups: Sequence[Group], metric: str = "f1"
) -> tuple[list[Ranks], list[str]]:
  """For each budget, ranks the methods that have the metric on all its datasets.

  Budgets are ranked separately, because a dataset has the same test texts at every
  budget. A budget with only one dataset or one method has no ranks.

  Returns:
    The ranks, and sentences that say why there are no ranks.
  """
  by_budget: dict[int, list[Group]] = {}
  for group in groups:
    by_budget.setdefault(group.labels, []).append(group)
  ranks, reasons = [], []
  for labels, members in by_budget.items():
    means = {(g.name, g.data): mean_and_deviation(g.values(metric))[0] for g in members}
    names, data = (list(dict.fromkeys(keys)) for keys in zip(*means, strict=True))
    if len(data) < 2:
      continue
    methods = [n for n in names if all(means.get((n, d)) is not None for d in data)]
    if len(methods) < 2:
      count = f"only {methods[0]} has one" if methods else "no method has one"
      reasons.append(
        f"No ranks over datasets with {labels or 'all'} labels: at least two methods "
        f"need a result on each of {', '.join(data)}, but {count}."
      )
      continue
    value = np.array([[means[name, place] for place in data] for name in methods])
    rank = stats.rankdata(-value, axis=0).mean(axis=1)
    p_value, no_test = None, ""
    if len(methods) < 3:
      no_test = "The Friedman test needs at least three methods."
    elif (value == value[0]).all():
      no_test = "All methods are equal on every dataset, so there is nothing to test."
    else:
      p_value = float(stats.friedmanchisquare(*value).pvalue)
    unranked = [name for name in names if name not in methods]
    ranks.append(Ranks(labels, methods, data, value, rank, p_value, no_test, unranked))
  if not ranks and not reasons and len({group.data for group in groups}) > 1:
    reasons = ["No ranks over datasets: no two datasets were run with the same budget."]
  return ranks, reasons
