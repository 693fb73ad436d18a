"""Trains from Python: `ssljax.load_config`, `ssljax.train` and `ssljax.self_train`."""

import dataclasses
import functools
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_collections
from absl import flags

from ssljax import config_files
from ssljax.config import MODULES, new_workdir, validate
from ssljax.configs import base  # type: ignore[attr-defined]  # in configs/
from ssljax.errors import UserError

if TYPE_CHECKING:
  from ssljax.inference.classifier import SafetyClassifier


_DEFAULT_WORKDIRS: set[Path] = set()  # chosen by this process
_LOCK = threading.Lock()


def load_config(source: str | Path, **changes: Any) -> ml_collections.ConfigDict:
  """Loads a config and changes some of its keys.

  >>> config = load_config("fixmatch", data="pyrit", labels=100, method={"scale": 2.0})
  >>> config.labels, config.method.threshold
  (100, 0.95)

  Args:
    source: name of one of the package's configs, or path of a config file. An argument
      may follow a colon, as in "fixmatch:response" or "fixmatch:prompt+abc".
    **changes: new values by key. For `method` and `wrapper`, the value is a dict of
      keywords; a `name` in it chooses another method, with that method's defaults.

  Returns:
    The config, locked: setting a key that doesn't exist raises an AttributeError.

  Raises:
    UserError: the file or a key doesn't exist, the file raises an error, or a value has
      the wrong type.
  """
  config = config_files.load(*config_files.find(str(source)))
  for key in MODULES:
    if isinstance(changes.get(key), Mapping) and "name" in changes[key]:
      name = changes[key]["name"]
      if not isinstance(name, str):
        raise UserError(f"{key}={changes[key]}: its name must be a string")
      base.choose(config, key, name)
  config_files.update(config, changes)
  return config.lock()


@dataclasses.dataclass(frozen=True)
class TrainingResult:
  """The metrics and the classifier of a finished run.

  Attributes:
    workdir: the folder of the run; docs/runs.md lists its files.
    metrics: the content of result.json; `metrics["test"]["f1"]` is the test F1.
  """

  workdir: Path
  metrics: dict[str, Any]

  @property
  def thresholds(self) -> dict[str, Any]:
    """The thresholds chosen on validation, by name, with their metrics on test."""
    return self.metrics["thresholds"]

  @functools.cached_property
  def classifier(self) -> "SafetyClassifier":
    """The classifier of the chosen checkpoint, ready to score texts."""
    from ssljax.inference.classifier import SafetyClassifier

    return SafetyClassifier.load(self.workdir)


def train(
  config: str | Path | Mapping[str, Any] | ml_collections.ConfigDict,
  workdir: str | Path | None = None,
) -> TrainingResult:
  """Trains a classifier, as `python -m ssljax.main` does.

  If the workdir holds the same run, the run is continued; if it is already finished,
  its result is returned at once. In the main thread, SIGINT and SIGTERM save a
  checkpoint before they interrupt. Signal handlers are restored at the end.

  >>> import ssljax
  >>> config = ssljax.load_config(
  ...   "fixmatch", data="data/mine", encoder="encoders/tiny", labels=16, batch=8,
  ...   steps=4, max_length=32,
  ... )
  >>> result = ssljax.train(config, "runs/first")
  fixmatch: ... labelled and ... unlabelled texts, ...
  results in runs/first
  >>> 0 <= result.metrics["test"]["accuracy"] <= 1
  True
  >>> result.classifier(["How do I bake bread?"]).shape  # scores, f64 [1]
  (1,)

  Args:
    config: a config from `load_config`, or a name or path for `load_config`.
    workdir: folder of the run; by default a new one, runs/NAME-TIME.

  Raises:
    UserError: the config or the data has a mistake; the message says how to fix it.
    RunError: the loss or an update is not finite, the disk is full, or a checkpoint
      can't be read back. The last good checkpoint is kept.
    KeyboardInterrupt: a signal stopped the run; calling `train` again continues it.
  """
  keys, folder = _prepare(config, workdir)
  from ssljax.train import run

  _check_finished(run(keys, folder), folder)
  return _read_result(folder)


def self_train(
  config: str | Path | Mapping[str, Any] | ml_collections.ConfigDict,
  workdir: str | Path | None = None,
  generations: int = 3,
  draw: str = "noisy_student",
  **keywords: float,
) -> list[TrainingResult]:
  """Trains in generations, as `python -m ssljax.self_train` does.

  It continues and stops as `train` does.

  >>> import ssljax
  >>> config = ssljax.load_config(
  ...   "supervised", data="data/mine", encoder="encoders/tiny", labels=16, batch=8,
  ...   steps=8, max_length=32, method={"view": "strong"},
  ... )
  >>> results = ssljax.self_train(config, "runs/student", generations=2, floor=0.1)
  --floor=0.1 leaves out no text: ...
  >>> [result.workdir.name for result in results]
  ['generation-0', 'generation-1']

  Args:
    config: as for `train`.
    workdir: folder of the generations; by default a new one, runs/NAME-TIME.
    generations: number of runs, with generation 0, which has no pseudo-labels.
    draw: "noisy_student" or "crest"; see docs/self-training.md.
    **keywords: settings of the draw, such as floor=0.8.

  Returns:
    The result of each generation.

  Raises:
    UserError, RunError, KeyboardInterrupt: as for `train`; UserError also if too little
      is drawn.
  """
  keys, folder = _prepare(config, workdir)
  from ssljax.self_train import run

  _check_finished(run(keys, folder, generations, draw, **keywords), folder)
  places = [folder / f"generation-{number}" for number in range(generations)]
  return [*map(_read_result, places)]


def _prepare(
  config: str | Path | Mapping[str, Any] | ml_collections.ConfigDict,
  workdir: str | Path | None,
) -> tuple[dict[str, Any], Path]:
  """The checked keys of a config, and the folder to write to."""
  if isinstance(config, str | Path):
    config = load_config(config)
  keys = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
  validate(keys)
  for key in ("dry_run", "distributed"):
    if keys[key]:
      raise UserError(f"{key}=True is for python -m ssljax.main, not for Python code")
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # the data loader reads flags of absl
  folder = Path(workdir).expanduser() if workdir else _new_workdir(keys["name"])
  return dict(keys), folder


def _check_finished(code: int, folder: Path) -> None:
  if code:
    raise KeyboardInterrupt(f"{folder}: stopped by a signal and saved")


def _read_result(folder: Path) -> TrainingResult:
  result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
  return TrainingResult(folder, result)


def _new_workdir(name: str) -> Path:
  """A new folder for each call, even for two calls within a second."""
  with _LOCK:
    while (folder := new_workdir(name)) in _DEFAULT_WORKDIRS or folder.exists():
      time.sleep(0.1)  # the name changes with the next second
    _DEFAULT_WORKDIRS.add(folder)
  return folder
