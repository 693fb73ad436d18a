"""Groups runs by method, dataset and budget, and lists how their configs differ.

A group holds the runs whose configs, on one dataset with one budget of labels, differ
only in the seed.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.errors import UserError
from ssljax.evals.runs import Run

# Keys that don't define a method: where it ran, and how often it reported.
IGNORED = (
  *("seed", "distributed", "dry_run", "resolved"),
  *("log_every", "checkpoint_every"),
)
BUDGET, DATA = "labels", "data"
BASELINE = "supervised"


class Group(NamedTuple):
  """Runs of one method on one dataset with one budget, one for each seed."""

  name: str  # of the method, with the options that tell it from others
  data: str
  labels: int
  runs: list[Run]

  def values(self, metric: str) -> list[float]:
    """The metric on test of each run that defines it."""
    values = [run.result["test"][metric] for run in self.runs]
    return [value for value in values if value is not None]


def group_runs(runs: Sequence[Run]) -> list[Group]:
  """Groups in the order of the runs, with `supervised` first.

  The name of a method includes the options in which its runs differ on one dataset with
  one budget. Options that vary only with the dataset or the budget are not included;
  see `varying_options`.

  Raises:
    UserError: two runs of one group have the same seed, or predictions cannot be read.
  """
  configs = [_flatten(run.config) for run in runs]
  methods = [run.result["method"] for run in runs]
  budgets = (config[BUDGET] for config in configs)
  places = list(zip(dataset_names(runs), budgets, strict=True))
  options = {
    method: _distinguishing_options(
      [
        (place, config)
        for name, place, config in zip(methods, places, configs, strict=True)
        if name == method
      ]
    )
    for method in dict.fromkeys(methods)
  }
  groups: dict[tuple, Group] = {}
  for run, config, method, place in zip(runs, configs, methods, places, strict=True):
    name = " ".join([method, *(f"{o}={config.get(o)}" for o in options[method])])
    group = groups.setdefault((name, *place), Group(name, *place, []))
    for other in group.runs:
      if other.config["seed"] == run.config["seed"]:
        raise UserError(
          f"{other.workdir} and {run.workdir} are the same run (method, data, labels "
          "and seed); leave one out"
        )
    group.runs.append(run)
  return sorted(groups.values(), key=lambda group: group.name.split()[0] != BASELINE)


def _distinguishing_options(
  runs: Sequence[tuple[tuple, Mapping[str, Any]]],
) -> list[str]:
  """The options in which runs (place, config) of a method differ at the same place."""
  by_place: dict[tuple, list[Mapping[str, Any]]] = {}
  for place, config in runs:
    by_place.setdefault(place, []).append(config)
  return [
    option
    for option in dict.fromkeys(itertools.chain.from_iterable(c for _, c in runs))
    if option not in (DATA, BUDGET, "method.name")
    and any(
      len({repr(config.get(option)) for config in configs}) > 1
      for configs in by_place.values()
    )
  ]


def dataset_names(runs: Sequence[Run]) -> list[str]:
  """A short name for the dataset of each run.

  Runs with the same path share a dataset, even though each seed splits a single file
  differently. Runs with the same test texts do as well, whatever their paths.
  """
  datasets: list[set] = []  # of paths and hashes of test sets
  for run in runs:
    keys = {run.config["data"], run.test_set_hash()}
    same = [dataset for dataset in datasets if dataset & keys]
    datasets = [dataset for dataset in datasets if not dataset & keys]
    datasets.append(keys.union(*same))
  # The shortest path gives the name, so that the order of the runs doesn't matter.
  paths = [
    sorted((key for key in dataset if isinstance(key, str)), key=lambda p: (len(p), p))
    for dataset in datasets
  ]
  names = short_names([spellings[0] for spellings in paths])
  name_of = {path: names[spellings[0]] for spellings in paths for path in spellings}
  return [name_of[run.config["data"]] for run in runs]


def short_names(paths: Sequence[str]) -> dict[str, str]:
  """The last part of each path, or the whole path if two paths share that part."""
  last = {path: Path(path).name or path for path in paths}
  count = Counter(last.values())
  return {path: name if count[name] == 1 else path for path, name in last.items()}


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  options: dict[str, Any] = {}
  for key, value in config.items():
    if prefix + key in IGNORED:
      continue
    if isinstance(value, Mapping):
      options |= _flatten(value, f"{prefix}{key}.")
    else:
      options[prefix + key] = value
  return options


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
  """Mean and sample standard deviation; None where there are too few values."""
  if not values:
    return None, None
  deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
  return float(np.mean(values)), deviation


def config_differences(groups: Sequence[Group]) -> dict[str, dict[str, str]]:
  """Options that differ between methods: option -> name of the group -> its value.

  The groups share a dataset and a budget. Options of `method` and `wrapper` define the
  method and are left out; if they differ between runs of one method, its name shows it.
  """
  configs = {group.name: _flatten(group.runs[0].config) for group in groups}
  options = dict.fromkeys(itertools.chain.from_iterable(configs.values()))
  differences = {}
  for option in options:
    if option in (DATA, BUDGET, "name") or option.startswith(("method.", "wrapper.")):
      continue
    values = {name: str(config.get(option)) for name, config in configs.items()}
    if len(set(values.values())) > 1:
      differences[option] = values
  return differences


class VaryingOption(NamedTuple):
  """An option that varies with the dataset or the budget."""

  option: str
  methods: list[str]
  values: dict[tuple[str, int], str]  # by dataset and budget


def varying_options(groups: Sequence[Group]) -> list[VaryingOption]:
  """Options that a method sets differently for other datasets or budgets.

  Methods that vary an option in the same way share one entry.
  """
  configs = [_flatten(group.runs[0].config) for group in groups]
  varying: dict[tuple, VaryingOption] = {}
  for option in dict.fromkeys(itertools.chain.from_iterable(configs)):
    if option in (DATA, BUDGET):
      continue
    for name in dict.fromkeys(group.name for group in groups):
      values = {
        (group.data, group.labels): str(config.get(option))
        for group, config in zip(groups, configs, strict=True)
        if group.name == name
      }
      if len(set(values.values())) > 1:
        key = (option, *sorted(values.items()))
        entry = varying.setdefault(key, VaryingOption(option, [], values))
        entry.methods.append(name)
  return list(varying.values())
