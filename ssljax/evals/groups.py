"""Groups runs by method, dataset and budget, and finds how configs of groups differ.

The budget is the number of labels. The runs of a group have the same method, dataset
and budget; they differ only in the seed.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssljax.errors import UserError
from ssljax.evals.runs import Run

# Keys that don't define a method, such as the seed and how often a run reports.
IGNORED = (
  *("seed", "distributed", "dry_run", "resolved"),
  *("log_every", "checkpoint_every", "tracker", "profile"),
)
BUDGET, DATA, PSEUDO_LABELS = "labels", "data", "pseudo_labels"
BASELINE = "supervised"


class Group(NamedTuple):
  """The runs of one method on one dataset with one budget; their seeds differ."""

  name: str  # the method, with the options in which its groups differ
  data: str
  labels: int
  runs: list[Run]

  def values(self, metric: str) -> list[float]:
    """The metric on test of each run in which it is defined."""
    values = (run.result["test"][metric] for run in self.runs)
    return [value for value in values if value is not None]

  def options(self) -> dict[str, Any]:
    """The config without IGNORED keys; nested keys are joined with dots."""
    return _flatten(self.runs[0].config)


def group_runs(runs: Sequence[Run]) -> list[Group]:
  """Groups runs; keeps their order, except that `supervised` comes first.

  If runs of a method with the same dataset and budget differ in an option, the option
  is part of the group's name. Options that vary only with the dataset or the budget
  aren't part of the name; see `varying_options`.

  Raises:
    UserError: two runs of one group have the same seed, or predictions cannot be read.
  """
  entries = [
    (run, (name, run.config[BUDGET]), _flatten(run.config))
    for run, name in zip(runs, dataset_names(runs), strict=True)
  ]
  by_method: dict[str, list] = {}
  for run, *entry in entries:
    by_method.setdefault(run.result["method"], []).append(entry)
  options = {method: _distinguishing_options(m) for method, m in by_method.items()}
  groups: dict[tuple, Group] = {}
  for run, place, config in entries:
    method = run.result["method"]
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


def _distinguishing_options(runs: Sequence[tuple[tuple, dict[str, Any]]]) -> list[str]:
  """The options in which runs of a method differ at the same place.

  `runs` are pairs (place, config); a place is a dataset and a budget.
  """
  places = {place for place, _ in runs}
  return [
    option
    for option in dict.fromkeys(option for _, config in runs for option in config)
    if option not in (DATA, BUDGET, "method.name")
    and len({(place, repr(config.get(option))) for place, config in runs}) > len(places)
  ]


def dataset_names(runs: Sequence[Run]) -> list[str]:
  """A short name for the dataset of each run.

  Runs share a dataset if their configs name the same path, even if seeds split the file
  differently. Runs with the same test texts also share a dataset.
  """
  datasets: list[set] = []  # each has the paths and the test set hashes of one dataset
  for run in runs:
    keys = {run.config[DATA], run.test_set_hash()}
    same = [dataset for dataset in datasets if dataset & keys]
    datasets = [dataset for dataset in datasets if not dataset & keys]
    datasets.append(keys.union(*same))
  # The shortest path gives the name, so that the order of the runs doesn't matter.
  shortest = {}
  for dataset in datasets:
    paths = sorted(key for key in dataset if isinstance(key, str))
    shortest |= dict.fromkeys(paths, min(paths, key=len))
  names = short_names([*shortest.values()])
  return [names[shortest[run.config[DATA]]] for run in runs]


def short_names(paths: Sequence[str]) -> dict[str, str]:
  """The last part of each path, or the whole path if two paths share that part."""
  last = {path: Path(path).name or path for path in paths}
  count = Counter(last.values())
  return {path: name if count[name] == 1 else path for path, name in last.items()}


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  options: dict[str, Any] = {}
  if not prefix and PSEUDO_LABELS in config:
    # In the runs of several seeds, the files of a generation have the same name.
    name = Path(config[PSEUDO_LABELS]).stem or "none"
    config = {**config, PSEUDO_LABELS: name}
  for key, value in config.items():
    if prefix + key not in IGNORED:
      nested = isinstance(value, Mapping)
      options |= _flatten(value, f"{prefix}{key}.") if nested else {prefix + key: value}
  return options


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
  """Mean and sample standard deviation; each is None if there are too few values."""
  if not values:
    return None, None
  deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
  return float(np.mean(values)), deviation


def config_differences(groups: Sequence[Group]) -> dict[str, dict[str, str]]:
  """Finds options that differ between groups; maps option to group name to value.

  The groups share a dataset and a budget. Options of `method` and `wrapper` are left
  out because they define the method. If they differ between runs of one method, the
  groups' names show them.
  """
  configs = {group.name: group.options() for group in groups}
  differences = {}
  for option in dict.fromkeys(itertools.chain.from_iterable(configs.values())):
    if option in (DATA, BUDGET, "name") or option.startswith(("method.", "wrapper.")):
      continue
    values = {name: str(config.get(option)) for name, config in configs.items()}
    if len(set(values.values())) > 1:
      differences[option] = values
  return differences


def varying_options(
  groups: Sequence[Group],
) -> list[tuple[str, list[str], dict[tuple[str, int], str]]]:
  """Finds options that a method sets differently for different datasets or budgets.

  Returns:
    A list of (option, methods, value by dataset and budget). Methods that vary an
    option in the same way share one entry.
  """
  configs = [group.options() for group in groups]
  varying: dict[tuple, tuple] = {}
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
        _, methods, _ = varying.setdefault(key, (option, [], values))
        methods.append(name)
  return list(varying.values())
