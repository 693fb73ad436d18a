"""When a run stops early, and which step it selects; runs in this process."""

import functools
import importlib
import json
import os
import signal
from types import SimpleNamespace

import jax
import numpy as np
import orbax.checkpoint as ocp
import pyarrow.parquet as pq
import pytest
from jax.experimental.compilation_cache import compilation_cache

from configs import base
from ssljax import sharding
from ssljax.evals.classification import classification_metrics
from tests import runs

pytestmark = pytest.mark.slow
train = importlib.import_module("ssljax.train")  # ssljax.train is a function

# In so short a run, the model may predict the same class for all texts.
UNDEFINED = ("f1", "precision", "pseudo_label_accuracy")
JAX_SETTINGS = (
  "jax_compilation_cache_dir",
  "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder with data and an encoder; undoes the changes that runs make to JAX."""
  settings = {name: getattr(jax.config, name) for name in JAX_SETTINGS}
  with pytest.MonkeyPatch.context() as patch:
    folder = runs.folder(tmp_path_factory.mktemp("early"))
    patch.setenv("SSLJAX_CACHE", str(folder / "cache"))
    one_device = functools.partial(sharding.make_devices, devices=jax.devices()[:1])
    patch.setattr(sharding, "make_devices", one_device)  # eight are slower
    yield folder
  for name, value in settings.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def train_with(place, name: str, metrics, **keys):
  """Runs training; `metrics[k]` replaces validation metrics of evaluation k + 1.

  The run gets a SIGTERM while it evaluates the selected step. `unhandled` has an entry
  if the run leaves it to the handler of this process.
  """
  config = base.get_config("supervised")
  config.update(
    data=str(place / "data"),
    encoder=str(place / "encoder"),
    labels=16,
    batch=8,
    steps=12,
    max_length=32,
    learning_rate=3e-3,
    eval_every=2,
    checkpoint_every=5,
    patience=2,
    **keys,
  )
  replacements, logits, params = iter(metrics), [], []
  unhandled = []
  measure, score = train.classification_metrics, train.score.score
  run_metrics = train.evaluation.run_metrics

  def replaced(*args):
    return measure(*args) | next(replacements, {})

  def recorded(step, step_params, *args, **kwargs):
    params.append(jax.tree.map(np.array, step_params))  # donated later
    logits.append(score(step, step_params, *args, **kwargs))
    return logits[-1]

  def terminated(**arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    return run_metrics(**arguments)

  workdir = place / name
  before = signal.signal(signal.SIGTERM, lambda *args: unhandled.append(args))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train, "classification_metrics", replaced)
    patch.setattr(train.score, "score", recorded)
    patch.setattr(train.evaluation, "run_metrics", terminated)
    try:
      assert train.run(config.to_dict(), workdir) == 0
    finally:
      signal.signal(signal.SIGTERM, before)
  text = (workdir / "metrics.jsonl").read_text()
  return SimpleNamespace(
    workdir=workdir,
    lines=[json.loads(line) for line in text.splitlines()],
    result=json.loads((workdir / "result.json").read_text()),
    # Of each evaluation, then of the selected step on validation and test.
    logits=logits,
    params=params,
    unhandled=unhandled,
  )


@pytest.fixture(scope="module")
def by_f1(place):
  """Steps 2 to 10: an improvement, undefined, an improvement, equal, worse."""
  values = [{"f1": v} for v in (0.5, None, 0.7, 0.7, 0.6, 0.9)]
  return train_with(place, "by-f1", values, layout="padded")


@pytest.fixture(scope="module")
def by_auroc(place):
  """F1 keeps rising, AUROC falls after step 4."""
  values = [
    {"f1": f1, "auroc": auroc}
    for f1, auroc in ((0.1, 0.6), (0.2, 0.8), (0.3, 0.7), (0.4, 0.75), (0.5, 0.9))
  ]
  keys = {"select": "auroc", "dtype": "bfloat16", "ema": 0.9}
  return train_with(place, "by-auroc", values, **keys)


def evaluated_steps(run) -> list[int]:
  return [line["step"] for line in run.lines if line["split"] == "validation"]


def test_a_run_stops_if_its_patience_ends_without_an_improvement(by_f1, by_auroc):
  # An equal or undefined value is not an improvement.
  assert evaluated_steps(by_f1) == [2, 4, 6, 8, 10]
  assert by_f1.result["steps"] == 10
  assert evaluated_steps(by_auroc) == [2, 4, 6, 8]
  assert by_auroc.result["steps"] == 8


def test_a_sigterm_during_the_last_evaluation_does_not_cost_the_results(by_f1):
  assert by_f1.unhandled == []


def test_the_first_of_equally_good_steps_is_selected(by_f1):
  assert by_f1.result["step"] == 6


def test_the_step_is_selected_by_the_configured_metric(by_auroc):
  assert by_auroc.result["step"] == 4


@pytest.mark.parametrize(("which", "index"), [("by_f1", 2), ("by_auroc", 1)])
def test_results_belong_to_the_selected_step(which, index, request):
  run = request.getfixturevalue(which)
  *evaluations, validation, test = run.logits
  np.testing.assert_array_equal(validation, evaluations[index])
  for k, other in enumerate(evaluations):
    assert k == index or np.abs(other - validation).max() > 1e-4
  table = pq.read_table(run.workdir / "predictions" / "test.parquet")
  np.testing.assert_array_equal(np.array(table["logits"].to_pylist(), np.float32), test)
  last = run.lines[-1]
  assert (last["split"], last["step"]) == ("test", run.result["steps"])
  expected = classification_metrics(test, table["label"].to_numpy())
  assert {name: run.result["test"][name] for name in expected} == expected


@pytest.mark.parametrize("which", ["by_f1", "by_auroc"])
def test_metrics_are_finite_in_any_layout_and_dtype(which, request):
  run = request.getfixturevalue(which)

  def is_fine(name, value) -> bool:
    return (name in UNDEFINED and value is None) or np.isfinite(value)

  for line in run.lines:
    for name, value in line.items():
      assert name == "split" or is_fine(name, value), (name, line)
  train_steps = [line["step"] for line in run.lines if line["split"] == "train"]
  assert train_steps == [run.result["steps"]]  # the last step is always logged
  for part in ("validation", "test"):
    scores = run.result[part]
    shared = [name for name in run.lines[-1] if name in scores]
    assert shared
    assert all(is_fine(name, scores[name]) for name in shared)
  assert all(logits.dtype == np.float32 for logits in run.logits)


def test_the_average_is_evaluated_if_there_is_one(by_auroc, place):
  folder = by_auroc.workdir / "checkpoints" / str(by_auroc.result["step"]) / "state"
  saved = ocp.StandardCheckpointer().restore(folder.absolute())
  difference = jax.tree.map(
    lambda a, b: np.abs(a - b).max(), saved["params"], saved["ema"]
  )
  assert max(jax.tree.leaves(difference)) > 1e-4
  for used in (by_auroc.params[1], by_auroc.params[-1]):
    jax.tree.map(np.testing.assert_array_equal, used, saved["ema"])
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(saved["ema"]))


def test_starting_a_stopped_run_again_reports_that_it_is_finished(place, by_f1, capsys):
  config = json.loads((by_f1.workdir / "config.json").read_text())
  config.pop("resolved")
  assert train.run(config, by_f1.workdir) == 0
  assert "finished" in capsys.readouterr().out
