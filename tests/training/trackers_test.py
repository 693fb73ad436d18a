"""W&B and MLflow get the run, in their real packages without a network."""

import importlib.util
import json
import time

import pytest

from ssljax.config import KEYS
from ssljax.errors import UserError
from ssljax.training import trackers
from ssljax.training.trackers import Trackers

CONFIG = {
  "method": {"name": "fixmatch", "threshold": 0.95},
  "strong": ["words"],
  "resolved": {"sizes": {"classes": 2}},
}
LINE = {"step": 5, "split": "train", "loss": 0.5, "accuracy": None, "mask_rate.0": 0.25}
RESULT = {"test": {"f1": 0.75}, "method": "fixmatch", "params_sha256": "ab"}


def track(workdir, names, lines=(), result=None) -> list[str]:
  notes = []
  with Trackers(CONFIG | {"tracker": names}, workdir, notes.append) as tracked:
    for line in lines:
      tracked.line(line)
    if result:
      tracked.result(result)
  return notes


def needs(name):
  missing = importlib.util.find_spec(name) is None
  return pytest.mark.skipif(missing, reason=f"needs the extra {name}")


@needs("mlflow")
@pytest.mark.slow
def test_mlflow_gets_config_lines_and_result_also_after_a_resume(tmp_path, monkeypatch):
  import mlflow

  monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
  monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
  (tmp_path / "run").mkdir()
  assert track(tmp_path / "run", "mlflow", [LINE]) == []
  name = json.loads((tmp_path / "run" / "trackers.json").read_text())["mlflow"]
  client = mlflow.MlflowClient()
  assert client.get_run(name).info.status == "KILLED"
  assert track(tmp_path / "run", "mlflow", [LINE | {"step": 7}], RESULT) == []
  run = client.get_run(name)
  assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
  assert run.data.params["method.threshold"] == "0.95"
  assert run.data.params["resolved.sizes.classes"] == "2"
  assert [m.step for m in client.get_metric_history(name, "train/loss")] == [5, 7]
  assert run.data.metrics["train/mask_rate.0"] == 0.25
  assert run.data.metrics["result.test.f1"] == 0.75
  assert "train/accuracy" not in run.data.metrics
  (experiment,) = client.search_experiments(filter_string="name = 'ssljax'")
  assert len(client.search_runs([experiment.experiment_id])) == 1


@needs("wandb")
@pytest.mark.slow
def test_wandb_gets_config_lines_and_result_also_after_a_resume(tmp_path, monkeypatch):
  monkeypatch.setenv("WANDB_MODE", "offline")
  (tmp_path / "run").mkdir()
  assert track(tmp_path / "run", "wandb", [LINE]) == []
  name = json.loads((tmp_path / "run" / "trackers.json").read_text())["wandb"]
  assert track(tmp_path / "run", "wandb", [LINE], RESULT) == []
  logs = list((tmp_path / "run" / "wandb").glob(f"offline-run-*/run-{name}.wandb"))
  assert len(logs) == 2  # parts of the same run
  content = b"".join(path.read_bytes() for path in logs)
  for text in (b"train/loss", b"fixmatch", b"mask_rate.0", b"result.test.f1"):
    assert text in content


class Failing:
  """A tracker that fails when it's made, or at its first line."""

  id = "x"

  def __init__(self, workdir, config, saved):
    if config["method"] == "start":
      raise ConnectionError("no route\nto the host")
    self.lines = 0

  def log(self, step, values):
    self.lines += 1
    raise ConnectionError("no route\nto the host")

  def finish(self, result):
    raise AssertionError("called after a failure")


@pytest.mark.parametrize("method", ["start", "log"])
def test_a_tracker_that_fails_is_dropped_with_a_warning(tmp_path, monkeypatch, method):
  monkeypatch.setitem(trackers.TRACKERS, "wandb", Failing)
  notes = []
  config = {"tracker": "wandb", "method": method}
  with Trackers(config, tmp_path, notes.append) as tracked:
    for _ in range(3):
      tracked.line(LINE)
  assert notes == ["warning: wandb has failed (no route); the run continues"]


def test_a_tracker_that_hangs_is_left(tmp_path, monkeypatch):
  class Hanging(Failing):
    def log(self, step, values):
      time.sleep(60)

  monkeypatch.setitem(trackers.TRACKERS, "wandb", Hanging)
  monkeypatch.setattr(trackers, "END", 0.1)
  (note,) = track(tmp_path, "wandb", [LINE])
  assert note == "wandb: not done after 0.1 s; left"


def test_without_trackers_nothing_happens(tmp_path):
  assert track(tmp_path, "", [LINE], RESULT) == []
  assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_a_user_error(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UserError, match=r"pip install 'ssljax\[wandb\]'"):
    trackers.check({"tracker": "wandb"})
  trackers.check({"tracker": ""})


def test_the_config_accepts_all_trackers():
  option = KEYS["tracker"]
  assert {name for choice in option.choices for name in choice.split(",")} == {
    "",
    *trackers.TRACKERS,
  }
  assert trackers.names_in({"tracker": "wandb,mlflow"}) == ["wandb", "mlflow"]
