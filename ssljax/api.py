"""The functions of `import ssljax`: train, evaluate and predict from Python.

They live here because modules have the same names, such as ssljax/train.py; the package
makes sure that `ssljax.train` always means the function (see ssljax/__init__.py).
"""

import dataclasses
import functools
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_collections
from absl import flags

from ssljax import config_files, methods, wrappers
from ssljax.config import new_workdir, validate
from ssljax.errors import UserError

if TYPE_CHECKING:
  from ssljax.inference.classifier import SafetyClassifier


_DEFAULT_WORKDIRS: set[Path] = set()  # of this process
_LOCK = threading.Lock()


def load_config(source: str | Path, **changes: Any) -> ml_collections.ConfigDict:
  """Loads a config and changes some of its keys.

  >>> config = load_config("fixmatch", data="pyrit", labels=100, method={"scale": 2.0})
  >>> config.labels, config.method.threshold
  (100, 0.95)

  Args:
    source: name of a config of the package, or path of a file; behind a colon its
      argument, as in "fixmatch:response" or "fixmatch:prompt+abc".
    **changes: new values by key; for `method` and `wrapper` a dict of keywords. A
      `name` in it chooses another method, which starts from its own defaults.

  Returns:
    The config, locked: setting a key that doesn't exist raises an AttributeError.

  Raises:
    UserError: no such file or key, a file that fails, or a value of another type.
  """
  config = config_files.load(*config_files.find(str(source)))
  for key, package in (("method", methods), ("wrapper", wrappers)):
    name = changes[key].get("name") if isinstance(changes.get(key), Mapping) else None
    if name is not None and name != config[key].name:
      keywords = package.defaults(name)
      config[key] = ml_collections.ConfigDict({"name": name, **keywords})
  config_files.update(config, changes)
  return config.lock()


@dataclasses.dataclass(frozen=True)
class TrainingResult:
  """What a finished run has measured, and its classifier.

  Attributes:
    workdir: the folder of the run; docs/runs.md lists its files.
    metrics: the content of result.json; `metrics["test"]["f1"]` is the test F1.
  """

  workdir: Path
  metrics: dict[str, Any]

  @property
  def thresholds(self) -> dict[str, Any]:
    """The thresholds that validation chose, by name, with their metrics on test."""
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

  A workdir that holds the same run is continued; a finished run is returned at once.
  SIGINT and SIGTERM save a checkpoint before they interrupt, if this is the main
  thread; signal handlers are restored at the end.

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
    config: from `load_config`, or what `load_config` takes.
    workdir: folder of the run; by default a new one, runs/NAME-TIME.

  Raises:
    UserError: a mistake in config or data; one line that says how to fix it.
    RunError: a loss that is not finite.
    KeyboardInterrupt: a signal stopped the run; calling `train` again continues it.
  """
  if isinstance(config, str | Path):
    config = load_config(config)
  keys = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
  validate(keys)
  for key in ("dry_run", "distributed"):
    if keys[key]:
      raise UserError(f"{key}=True is for python -m ssljax.main, not for ssljax.train")
  keys = {
    **keys,
    "method": methods.complete(keys["method"]),
    "wrapper": wrappers.complete(keys["wrapper"]),
  }
  folder = Path(workdir).expanduser() if workdir else _new_workdir(keys["name"])
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # the data loader reads flags of absl
  from ssljax.train import run

  code = run(keys, folder)
  if code:
    raise KeyboardInterrupt(f"{folder}: stopped by a signal and saved")
  result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
  return TrainingResult(folder, result)


def _new_workdir(name: str) -> Path:
  """A new folder for each call, also for two calls within a second."""
  with _LOCK:
    first, number = new_workdir(name), 1
    folder = first
    while folder in _DEFAULT_WORKDIRS or folder.exists():
      number += 1
      folder = first.with_name(f"{first.name}-{number}")
    _DEFAULT_WORKDIRS.add(folder)
  return folder


def evaluate(
  workdir: str | Path,
  data: str | Path | None = None,
  output: str | Path | None = None,
  slices: Sequence[str] = (),
) -> dict[str, Any]:
  """Scores a run's chosen checkpoint on labelled texts, as `ssljax.evaluate` does.

  >>> import ssljax
  >>> metrics = ssljax.evaluate("runs/demo")
  test of data/mine (24 rows, step ...): ...
  results in runs/demo/evaluations/test
  >>> metrics["test"]["auroc"]
  0.9...

  Args:
    workdir: folder of a run.
    data: labelled file or folder; by default the run's test texts.
    output: where to write; by default WORKDIR/evaluations/NAME.
    slices: columns of `data` whose values are evaluated separately.

  Returns:
    The content of metrics.json; `["test"]["f1"]` is the F1.

  Raises:
    UserError: no run, or data that cannot be read.
  """
  from ssljax.evaluate import evaluate as run

  return run(workdir, data, output, slices)


def predict(
  model: "str | Path | SafetyClassifier",
  source: str | Path,
  target: str | Path,
  threshold: str | float = "",
) -> str:
  """Scores a file of texts, as `ssljax.predict` does.

  >>> import ssljax
  >>> ssljax.predict("runs/demo", "texts.jsonl", "scored.jsonl", threshold=0.5)
  '3 rows scored, 3 flagged at 0.5'

  Args:
    model: a run, an exported folder, or a classifier.
    source: JSONL or Parquet file with a column `text`.
    target: the file to write: the same rows with `score`, `flagged` and `label_name`.
    threshold: a number, or the name of a threshold such as "fpr_1%"; default 0.5.

  Returns:
    A summary, such as "50 rows scored, 3 flagged at 0.5".

  Raises:
    UserError: a file that cannot be read or written, or an unknown threshold.
  """
  from ssljax.inference.classifier import SafetyClassifier
  from ssljax.predict import predict as run

  if not isinstance(model, SafetyClassifier):
    model = SafetyClassifier.load(model)
  return run(model, str(source), str(target), str(threshold))
