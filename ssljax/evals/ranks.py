"""Ranks methods over several datasets, with the Friedman test (Demsar 2006)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from ssljax.evals.groups import Group, mean_and_deviation


class Ranks(NamedTuple):
  """Average ranks of methods over the datasets that were run with one budget."""

  labels: int  # the budget
  methods: list[str]
  data: list[str]
  value: np.ndarray  # f64 [methods, data], means over seeds
  rank: np.ndarray  # f64 [methods], average; 1 is the best
  p_value: float | None  # of the Friedman test
  no_test: str  # why there is no p-value
  unranked: list[str]  # methods without a run, or without the metric, on some dataset


def average_ranks(groups: Sequence[Group], metric: str = "f1") -> list[Ranks]:
  """For each budget, ranks the methods that ran on all of its datasets.

  Budgets of one dataset share its test texts, so they don't count as datasets. A budget
  with one dataset or one method has no ranks.
  """
  ranks = [
    _average_ranks(members, labels, metric)
    for labels, members in _by_budget(groups).items()
  ]
  return [entry for entry in ranks if entry]


def reasons_without_ranks(groups: Sequence[Group], metric: str = "f1") -> list[str]:
  """Why there are no ranks despite several datasets, as sentences."""
  by_budget = _by_budget(groups)
  several = {n: members for n, members in by_budget.items() if len(_data(members)) > 1}
  if not several and len(_data(groups)) > 1:
    return ["No ranks over datasets: no two datasets were run with the same budget."]
  reasons = []
  for labels, members in several.items():
    methods, _ = _complete_methods(members, metric)
    if len(methods) < 2:
      count = f"only {methods[0]} has" if methods else "none has"
      reasons.append(
        f"No ranks over datasets with {labels or 'all'} labels: at least two methods "
        f"need a result on each of {', '.join(_data(members))}, but {count}."
      )
  return reasons


def _by_budget(groups: Sequence[Group]) -> dict[int, list[Group]]:
  by_budget: dict[int, list[Group]] = {}
  for group in groups:
    by_budget.setdefault(group.labels, []).append(group)
  return by_budget


def _data(groups: Sequence[Group]) -> list[str]:
  return list(dict.fromkeys(group.data for group in groups))


def _complete_methods(
  groups: Sequence[Group], metric: str
) -> tuple[list[str], list[str]]:
  """The methods that have the metric on all datasets, and the other methods."""
  defined = {(group.name, group.data) for group in groups if group.values(metric)}
  complete: list[str] = []
  incomplete: list[str] = []
  for name in dict.fromkeys(group.name for group in groups):
    everywhere = all((name, data) in defined for data in _data(groups))
    (complete if everywhere else incomplete).append(name)
  return complete, incomplete


def _average_ranks(groups: Sequence[Group], labels: int, metric: str) -> Ranks | None:
  datasets = _data(groups)
  methods, unranked = _complete_methods(groups, metric)
  if len(methods) < 2 or len(datasets) < 2:
    return None
  means = {(g.name, g.data): mean_and_deviation(g.values(metric))[0] for g in groups}
  value = np.array([[means[name, data] for data in datasets] for name in methods])
  rank = stats.rankdata(-value, axis=0).mean(axis=1)
  p_value, no_test = None, ""
  if len(methods) < 3:
    no_test = "The Friedman test needs at least three methods."
  elif all(len(set(column)) == 1 for column in value.T):
    no_test = "All methods are equal on every dataset, so there is nothing to test."
  else:
    p_value = float(stats.friedmanchisquare(*value).pvalue)
  return Ranks(labels, methods, datasets, value, rank, p_value, no_test, unranked)
