"""Runs against each other: over seeds, on the same texts, and over data sets.

A method is a group of runs whose configs, on one data set with one budget, differ in
nothing but the seed. Differences on a data set are judged by paired bootstrap: the same
resamples of the test texts for all runs, so that what two methods find hard alike does
not count. Over data sets: average ranks and the Friedman test (Demsar 2006).
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from ssljax.errors import UserError
from ssljax.evals import bootstrap, classification, runs
from ssljax.evals.runs import Run

# What does not make another method: where it ran, and how often it reported.
ASIDE = ("seed", "distributed", "dry_run", "resolved", "log_every", "checkpoint_every")
BUDGET, DATA = "labels", "data"
BASELINE = "supervised"


class OtherTexts(ValueError):
  """Two runs were tested on different texts."""


class Group(NamedTuple):
  """Runs of one method on one data set with one budget, by seed."""

  name: str  # of the method, with what sets it apart
  data: str
  labels: int
  runs: list[Run]

  def values(self, metric: str) -> list[float]:
    found = [run.result["test"][metric] for run in self.runs]
    return [value for value in found if value is not None]


def groups(found: Sequence[Run]) -> list[Group]:
  """Groups in the order of the runs, `supervised` before the others.

  The name of a method has the options in which its runs differ on one data set with one
  budget; what goes with the data set or the budget is no part of it (see `moving`).

  Raises:
    UserError: two runs of one group that have the same seed; predictions that cannot be
      read.
  """
  flat = [_flat(run.config) for run in found]
  methods = [run.result["method"] for run in found]
  places = list(zip(data_sets(found), (c[BUDGET] for c in flat), strict=True))
  own = {
    method: _own(method, methods, places, flat) for method in dict.fromkeys(methods)
  }
  made: dict[tuple, Group] = {}
  for run, config, method, place in zip(found, flat, methods, places, strict=True):
    name = " ".join([method, *(f"{n}={config.get(n)}" for n in own[method])])
    key = name, *place
    group = made.setdefault(key, Group(*key, []))
    for other in group.runs:
      if other.config["seed"] == run.config["seed"]:
        raise UserError(
          f"{other.workdir} and {run.workdir} are the same run (method, data, labels "
          "and seed); leave one out"
        )
    group.runs.append(run)
  # What the others are held against comes first.
  return sorted(made.values(), key=lambda group: group.name.split()[0] != BASELINE)


def _own(
  method: str,
  methods: Sequence[str],
  places: Sequence[tuple],
  flat: Sequence[Mapping[str, Any]],
) -> list[str]:
  """The options in which runs of a method differ on one data set with one budget."""
  beside: dict[tuple, list] = {}
  for name, place, config in zip(methods, places, flat, strict=True):
    if name == method:
      beside.setdefault(place, []).append(config)
  return [
    option
    for option in dict.fromkeys(itertools.chain.from_iterable(flat))
    if option not in (DATA, BUDGET, "method.name")
    and any(len({repr(c.get(option)) for c in some}) > 1 for some in beside.values())
  ]


def data_sets(found: Sequence[Run]) -> list[str]:
  """A short name for the data set of each run.

  Runs of one path have one data set, though a single file is split anew by each seed;
  so have runs that were tested on the same texts, whatever their paths.
  """
  own = [{run.config["data"], runs.tested_on(run)} for run in found]
  sets: list[set] = []
  for one in own:
    same = [other for other in sets if other & one]
    sets = [other for other in sets if not other & one] + [one.union(*same)]
  # The shortest path speaks for all, whichever run is given first.
  paths = [
    sorted((key for key in one if isinstance(key, str)), key=lambda p: (len(p), p))
    for one in sets
  ]
  names = short([some[0] for some in paths])
  name_of = {path: names[some[0]] for some in paths for path in some}
  return [name_of[run.config["data"]] for run in found]


def short(data: Sequence[str]) -> dict[str, str]:
  """The last part of each path, or the whole of it where that would name two."""
  last = {one: Path(one).name or one for one in data}
  many = Counter(last.values())
  return {one: name if many[name] == 1 else one for one, name in last.items()}


def _flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
  found: dict[str, Any] = {}
  for name, value in config.items():
    if before + name in ASIDE:
      continue
    if isinstance(value, Mapping):
      found |= _flat(value, f"{before}{name}.")
    else:
      found[before + name] = value
  return found


def mean_and_spread(values: Sequence[float]) -> tuple[float | None, float | None]:
  """Mean and sample standard deviation; None where there are too few."""
  if not values:
    return None, None
  spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
  return float(np.mean(values)), spread


class Difference(NamedTuple):
  """How much better `one` is than `other` on the same test texts."""

  one: str
  other: str
  value: float  # difference of the means over seeds
  interval: list[float] | None  # 95%, over texts
  p_value: float | None  # two-sided, of no difference; None as the interval is


def paired(some: Sequence[Group], metric: str = "f1") -> list[Difference]:
  """Each group against each that stands before it, on one data set.

  The seeds are taken as given and the texts as drawn: each resample gives every run's
  metric, and the means over the seeds of a group are compared.

  Raises:
    OtherTexts: runs whose test texts are not the same.
    UserError: predictions that cannot be read.
  """
  drawn = gaps(some, metric)
  found = []
  for b, a in itertools.combinations(range(len(some)), 2):
    gap = drawn[a] - drawn[b]
    value = np.mean(some[a].values(metric)) - np.mean(some[b].values(metric))
    interval, known = bootstrap.interval(gap), gap[~np.isnan(gap)]
    p = None
    if interval:
      below, above = np.mean(known <= 0), np.mean(known >= 0)
      # A p-value of 0 would claim more than so many resamples can show.
      p = float(min(1.0, 2 * max(min(below, above), 1 / len(known))))
    names = some[a].name, some[b].name
    found.append(Difference(*names, float(value), interval, p))
  return found


def gaps(some: Sequence[Group], metric: str) -> np.ndarray:
  """f64 [groups, R], each group's mean over seeds under the same resamples."""
  first, drawn = None, []
  for group in some:
    each = []
    for run in group.runs:
      own = runs.predictions(run)
      first = first or (run.workdir, own)
      if own.id != first[1].id or not np.array_equal(own.label, first[1].label):
        raise OtherTexts(
          f"{run.workdir} and {first[0]} have other test texts, so they cannot be "
          "compared text by text"
        )
      blocks = bootstrap.resamples(len(own.label))
      each.append(classification.resampled(own.logits, own.label, blocks)[metric])
    drawn.append(np.mean(each, axis=0))
  return np.array(drawn)


class Ranks(NamedTuple):
  labels: int  # the budget
  methods: list[str]
  data: list[str]
  value: np.ndarray  # f64 [methods, data], means over seeds
  rank: np.ndarray  # f64 [methods], average; 1 is the best
  p_value: float | None  # of the Friedman test
  why: str  # there is none
  left: list[str]  # methods that lack a data set, or the metric on one


def ranks(some: Sequence[Group], metric: str = "f1") -> list[Ranks]:
  """For each budget the average ranks of the methods that ran on all its data sets.

  Budgets of one data set are no data sets of their own: they share their test texts. A
  budget with one data set, or one method, has no ranks.
  """
  found = [_ranks(own, n, metric) for n, own in _by_budget(some).items()]
  return [one for one in found if one]


def unranked(some: Sequence[Group], metric: str = "f1") -> list[str]:
  """Why there are no ranks although there are several data sets, in a line each."""
  budgets = {n: _data(own) for n, own in _by_budget(some).items()}
  several = {n: data for n, data in budgets.items() if len(data) > 1}
  if not several and len(_data(some)) > 1:
    return ["No ranks over data sets: no two of them were run with the same budget."]
  found = []
  for labels, data in several.items():
    methods, _ = _whole([g for g in some if g.labels == labels], metric)
    if len(methods) < 2:
      found.append(
        f"No ranks over data sets with {labels or 'all'} labels: they take two methods "
        f"that have {metric} on each of {', '.join(data)}, and there is "
        f"{'one, ' + methods[0] if methods else 'none'}."
      )
  return found


def _by_budget(some: Sequence[Group]) -> dict[int, list[Group]]:
  found: dict[int, list[Group]] = {}
  for group in some:
    found.setdefault(group.labels, []).append(group)
  return found


def _data(some: Sequence[Group]) -> list[str]:
  return list(dict.fromkeys(group.data for group in some))


def _whole(some: Sequence[Group], metric: str) -> tuple[list[str], list[str]]:
  """The methods that have the metric on all data sets, and the others."""
  has = {(g.name, g.data) for g in some if g.values(metric)}
  found: tuple[list[str], list[str]] = ([], [])
  for name in dict.fromkeys(group.name for group in some):
    found[any((name, one) not in has for one in _data(some))].append(name)
  return found


def _ranks(some: Sequence[Group], labels: int, metric: str) -> Ranks | None:
  data = _data(some)
  cells = {(g.name, g.data): mean_and_spread(g.values(metric))[0] for g in some}
  methods, left = _whole(some, metric)
  if len(methods) < 2 or len(data) < 2:
    return None
  value = np.array([[cells[name, one] for one in data] for name in methods])
  rank = stats.rankdata(-value, axis=0).mean(axis=1)
  p_value, why = None, ""
  if len(methods) < 3:
    why = "The Friedman test needs three methods"
  elif all(len(set(column)) == 1 for column in value.T):
    why = "All methods are alike on each data set: there is nothing to test"
  else:
    p_value = float(stats.friedmanchisquare(*value).pvalue)
  return Ranks(labels, methods, data, value, rank, p_value, why, left)


def differing(some: Sequence[Group]) -> dict[str, dict[str, str]]:
  """What else sets methods apart: option -> method -> its value.

  The groups are of one data set and budget. Options of `method` and `wrapper` are
  what makes a method, and no difference beside it; those that differ between runs of
  one method stand in its name.
  """
  flat = {group.name: _flat(group.runs[0].config) for group in some}
  options = dict.fromkeys(itertools.chain.from_iterable(flat.values()))
  found = {}
  for name in options:
    if name in (DATA, BUDGET, "name") or name.startswith(("method.", "wrapper.")):
      continue
    values = {method: str(config.get(name)) for method, config in flat.items()}
    if len(set(values.values())) > 1:
      found[name] = values
  return found


class Moving(NamedTuple):
  """An option that goes with the data set or the budget."""

  option: str
  methods: list[str]
  values: dict[tuple[str, int], str]  # by data set and budget


def moving(some: Sequence[Group]) -> list[Moving]:
  """What is not the same on all data sets and budgets of a method, nor in its name."""
  flat = [_flat(group.runs[0].config) for group in some]
  found: dict[tuple, Moving] = {}
  for option in dict.fromkeys(itertools.chain.from_iterable(flat)):
    if option in (DATA, BUDGET):
      continue
    for name in dict.fromkeys(group.name for group in some):
      values = {
        (group.data, group.labels): str(config.get(option))
        for group, config in zip(some, flat, strict=True)
        if group.name == name
      }
      if len(set(values.values())) > 1:
        key = option, *sorted(values.items())
        found.setdefault(key, Moving(option, [], values)).methods.append(name)
  return list(found.values())
