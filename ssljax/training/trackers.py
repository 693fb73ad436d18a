"""Sends the config, the metrics and the result of a run to W&B and MLflow.

Both read their own settings: WANDB_PROJECT, WANDB_MODE and so on; MLFLOW_TRACKING_URI
and MLFLOW_EXPERIMENT_NAME. A resumed run continues the tracked run whose id is in
trackers.json. Everything happens in a separate thread, so a slow network doesn't slow
down the run. A tracker that fails is dropped with a warning.
"""

import contextlib
import functools
import importlib.util
import json
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from ssljax.errors import UserError
from ssljax.runtime.json_files import write_json

FILE = "trackers.json"  # name of a tracker -> id of the run there
END = 60.0  # seconds in which the trackers may send the rest at the end of the run


class Wandb:
  """A run of Weights & Biases, named like the run's folder."""

  def __init__(self, workdir: Path, config: Mapping[str, Any], saved: str | None):
    import wandb

    online = wandb.setup().settings.mode in ("online", "run", "shared")
    if online and not wandb.login(prompt=False):
      raise RuntimeError("no API key: run `wandb login`, or set WANDB_MODE=offline")
    self.id = saved or secrets.token_hex(4)
    self._run = wandb.init(
      id=self.id,
      resume="allow",
      name=workdir.name,
      dir=str(workdir),
      config=dict(config),
      settings=wandb.Settings(console="off", silent=True),
    )
    # W&B's own step can't go back, as it would after a resume.
    self._run.define_metric("*", step_metric="step")

  def log(self, step: int, values: Mapping[str, float]) -> None:
    self._run.log({"step": step, **values})

  def finish(self, result: Mapping[str, float] | None) -> None:
    self._run.summary.update(result or {})
    self._run.finish(exit_code=0 if result else 1)


class MLflow:
  """A run of MLflow, named like the run's folder."""

  def __init__(self, workdir: Path, config: Mapping[str, Any], saved: str | None):
    import mlflow

    self._module, self._client = mlflow, mlflow.MlflowClient()
    if saved:
      self.id = saved
      self._client.update_run(saved, status="RUNNING")
      return
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "ssljax")
    experiment = self._client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment else None
    number = number or self._client.create_experiment(name)
    self.id = self._client.create_run(number, run_name=workdir.name).info.run_id
    params = [
      mlflow.entities.Param(key, str(value)[:5000])
      for key, value in flattened(config).items()
    ]
    for i in range(0, len(params), 100):  # the most that a call takes
      self._client.log_batch(self.id, params=params[i : i + 100])

  def log(self, step: int, values: Mapping[str, float]) -> None:
    now = int(time.time() * 1000)
    metrics = [
      self._module.entities.Metric(key, value, now, step)
      for key, value in values.items()
    ]
    self._client.log_batch(self.id, metrics=metrics)

  def finish(self, result: Mapping[str, float] | None) -> None:
    if result:
      self.log(0, result)
    self._client.set_terminated(self.id, status="FINISHED" if result else "KILLED")


TRACKERS = {"wandb": Wandb, "mlflow": MLflow}


def names_in(config: Mapping[str, Any]) -> list[str]:
  """The names in config["tracker"]."""
  return config["tracker"].split(",") if config["tracker"] else []


def check(config: Mapping[str, Any]) -> None:
  """Raises UserError if the package of a tracker isn't installed."""
  for name in names_in(config):
    if importlib.util.find_spec(name) is None:
      raise UserError(
        f"--config.tracker={name}: {name} isn't installed; "
        f"pip install 'ssljax[{name}]', or leave --config.tracker empty"
      )


class Trackers(contextlib.AbstractContextManager):
  """The trackers of a run; all calls return at once, and none raises an error."""

  def __init__(
    self, config: Mapping[str, Any], workdir: Path, note: Callable[[str], None]
  ):
    """Starts the trackers, in the first process; without any, calls do nothing.

    Args:
      config: config.json of the run; "tracker" has the names.
      note: prints a line.
    """
    names = names_in(config) if jax.process_index() == 0 else []
    self._workdir, self._config, self._note = workdir, config, note
    self._queue: queue.SimpleQueue = queue.SimpleQueue()
    self._trackers: dict[str, Any] = {}
    self._finished = False
    self._thread = threading.Thread(target=self._work, args=[names], daemon=True)
    if names:
      self._thread.start()

  def line(self, line: Mapping[str, Any]) -> None:
    """Sends a line of metrics.jsonl."""
    values = {f"{line['split']}/{k}": v for k, v in line.items()}
    self._put("log", line["step"], numbers(values, without=("step", "split")))

  def result(self, result: Mapping[str, Any]) -> None:
    """Sends result.json, and marks the runs as finished."""
    self._finished = True
    self._put("finish", numbers(flattened({"result": result})))

  def __exit__(self, *error: object) -> None:
    if not self._finished:
      self._put("finish", None)
    if self._thread.is_alive():
      self._queue.put(None)
      self._thread.join(END)
      if self._thread.is_alive():
        self._note(f"{', '.join(self._trackers)}: not done after {END:g} s; left")

  def _put(self, call: str, *arguments: Any) -> None:
    if self._thread.is_alive():
      self._queue.put((call, *arguments))

  def _work(self, names: Sequence[str]) -> None:
    path, saved = self._workdir / FILE, {}
    with contextlib.suppress(OSError, ValueError):
      saved = json.loads(path.read_text(encoding="utf-8"))
    for name in names:

      def start(name: str = name) -> None:
        make = TRACKERS[name]
        self._trackers[name] = make(self._workdir, self._config, saved.get(name))
        saved[name] = self._trackers[name].id
        write_json(path, saved)

      self._try(name, start)
    while (item := self._queue.get()) is not None:
      call, *arguments = item
      for name, tracker in list(self._trackers.items()):
        self._try(name, functools.partial(getattr(tracker, call), *arguments))

  def _try(self, name: str, call: Callable[[], None]) -> None:
    try:
      call()
    except Exception as error:
      self._trackers.pop(name, None)
      reason = str(error).strip().splitlines() or [type(error).__name__]
      self._note(f"warning: {name} has failed ({reason[0]}); the run continues")


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Joins the keys of nested mappings with dots."""
  flat: dict[str, Any] = {}
  for key, value in values.items():
    if isinstance(value, Mapping):
      flat |= flattened(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat


def numbers(values: Mapping[str, Any], without: Sequence[str] = ()) -> dict[str, float]:
  """The finite numbers among the values."""
  return {
    name: float(value)
    for name, value in values.items()
    if isinstance(value, int | float)
    and not isinstance(value, bool)
    and abs(value) < float("inf")
    and name.rpartition("/")[2] not in without
  }
