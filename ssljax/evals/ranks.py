"""Ranks methods over several datasets, with the Friedman test (Demsar 2006)."""

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


def average_ranks(groups: Sequence[Group], metric: str = "f1") -> list[Ranks]:
  """For each budget, ranks the methods that ran on all of its datasets.

  One dataset with two budgets counts once, because both have the same test texts. A
  budget with only one dataset or one method has no ranks.
  """
  ranks = []
  for labels, members in _by_budget(groups).items():
    data = _data(members)
    methods, unranked = _complete_methods(members, metric)
    if len(methods) < 2 or len(data) < 2:
      continue
    means = {(g.name, g.data): mean_and_deviation(g.values(metric))[0] for g in members}
    value = np.array([[means[name, place] for place in data] for name in methods])
    rank = stats.rankdata(-value, axis=0).mean(axis=1)
    p_value, no_test = None, ""
    if len(methods) < 3:
      no_test = "The Friedman test needs at least three methods."
    elif (value == value[0]).all():
      no_test = "All methods are equal on every dataset, so there is nothing to test."
    else:
      p_value = float(stats.friedmanchisquare(*value).pvalue)
    ranks.append(Ranks(labels, methods, data, value, rank, p_value, no_test, unranked))
  return ranks


def reasons_without_ranks(groups: Sequence[Group], metric: str = "f1") -> list[str]:
  """Sentences that say why several datasets have no ranks."""
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
  data, names = _data(groups), list(dict.fromkeys(group.name for group in groups))
  complete = [n for n in names if all((n, place) in defined for place in data)]
  return complete, [name for name in names if name not in complete]
