"""When a run ends early, and which step it chooses: runs in this very process."""

import functools
import json
import signal
from types import SimpleNamespace

import jax
import numpy as np
import orbax.checkpoint as ocp
import pyarrow.parquet as pq
import pytest
from jax.experimental.compilation_cache import compilation_cache

from configs import base
from ssljax import sharding, train
from ssljax.evals.classification import classification_metrics
from tests import runs

KEPT = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """Data and encoder; what a run leaves in its process is undone at the end."""
  kept = {name: getattr(jax.config, name) for name in KEPT}
  heard = {
    number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)
  }
  with pytest.MonkeyPatch.context() as patch:
    folder = runs.folder(tmp_path_factory.mktemp("early"))
    patch.setenv("SSLJAX_CACHE", str(folder / "cache"))
    one = functools.partial(sharding.make_devices, devices=jax.devices()[:1])
    patch.setattr(sharding, "make_devices", one)  # eight take longer
    yield folder
  for number, handler in heard.items():
    signal.signal(number, handler)
  for name, value in kept.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def ran(place, name: str, said, **more):
  """Runs with validation metrics that are told: `said[k]` of evaluation k + 1.

  What is not told there is as it was measured.
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
    **more,
  )
  calls, logits, params = iter(said), [], []
  measure, score = train.classification, train.scoring.score

  def told(given, label):
    return measure(given, label) | next(calls, {})

  def watched(step, given, *rest):
    params.append(jax.tree.map(np.array, given))  # its arrays are donated later
    logits.append(score(step, given, *rest))
    return logits[-1]

  workdir = place / name
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train, "classification", told)
    patch.setattr(train.scoring, "score", watched)
    assert train.run(config.to_dict(), workdir) == 0
  text = (workdir / "metrics.jsonl").read_text()
  return SimpleNamespace(
    workdir=workdir,
    lines=[json.loads(line) for line in text.splitlines()],
    result=json.loads((workdir / "result.json").read_text()),
    # Of each evaluation, then of the chosen step on validation and test.
    logits=logits,
    params=params,
  )


@pytest.fixture(scope="module")
def by_f1(place):
  """Better, undefined, better still, as good, worse: evaluations at steps 2 to 10."""
  values = [{"f1": v} for v in (0.5, None, 0.7, 0.7, 0.6, 0.9)]
  return ran(place, "by-f1", values, layout="padded")


@pytest.fixture(scope="module")
def by_auroc(place):
  """F1 rises all the while, AUROC falls after step 4."""
  values = [
    {"f1": f1, "auroc": auroc}
    for f1, auroc in ((0.1, 0.6), (0.2, 0.8), (0.3, 0.7), (0.4, 0.75), (0.5, 0.9))
  ]
  more = {"select": "auroc", "dtype": "bfloat16", "ema": 0.9}
  return ran(place, "by-auroc", values, **more)


def evaluated(run) -> list[int]:
  return [line["step"] for line in run.lines if line["split"] == "validation"]


def test_a_run_stops_after_its_patience_without_a_better_value(by_f1, by_auroc):
  # As good as before is no better, and neither is what is undefined.
  assert evaluated(by_f1) == [2, 4, 6, 8, 10]
  assert by_f1.result["steps"] == 10
  assert evaluated(by_auroc) == [2, 4, 6, 8]
  assert by_auroc.result["steps"] == 8


def test_the_first_of_the_best_steps_is_chosen(by_f1):
  assert by_f1.result["step"] == 6


def test_another_metric_may_choose(by_auroc):
  assert by_auroc.result["step"] == 4


@pytest.mark.parametrize(("which", "index"), [("by_f1", 2), ("by_auroc", 1)])
def test_what_is_reported_is_of_the_chosen_step(which, index, request):
  run = request.getfixturevalue(which)
  *evaluations, validation, test = run.logits
  np.testing.assert_array_equal(validation, evaluations[index])
  for k, other in enumerate(evaluations):
    assert k == index or np.abs(other - validation).max() > 1e-4
  table = pq.read_table(run.workdir / "predictions" / "test.parquet")
  np.testing.assert_array_equal(np.array(table["logits"].to_pylist(), np.float32), test)
  last = run.lines[-1]
  assert (last["split"], last["step"]) == ("test", run.result["steps"])
  wanted = classification_metrics(test, table["label"].to_numpy())
  assert {name: run.result["test"][name] for name in wanted} == wanted


@pytest.mark.parametrize("which", ["by_f1", "by_auroc"])
def test_metrics_are_finite_in_any_layout_and_dtype(which, request):
  run = request.getfixturevalue(which)
  for line in run.lines:
    for name, value in line.items():
      undefined = name in ("f1", "pseudo_label_accuracy") and value is None
      assert undefined or name == "split" or np.isfinite(value), (name, line)
  train_steps = [line["step"] for line in run.lines if line["split"] == "train"]
  assert train_steps == [run.result["steps"]]  # the last step has a line
  for part in ("validation", "test"):
    found = run.result[part]
    assert all(np.isfinite(found[name]) for name in run.lines[-1] if name in found)
  assert all(logits.dtype == np.float32 for logits in run.logits)


def test_with_an_average_it_is_the_average_that_is_evaluated(by_auroc, place):
  folder = by_auroc.workdir / "checkpoints" / str(by_auroc.result["step"]) / "state"
  saved = ocp.StandardCheckpointer().restore(folder.absolute())
  apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), saved["params"], saved["ema"])
  assert max(jax.tree.leaves(apart)) > 1e-4
  for used in (by_auroc.params[1], by_auroc.params[-1]):
    jax.tree.map(np.testing.assert_array_equal, used, saved["ema"])
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(saved["ema"]))


def test_a_stopped_run_started_again_says_that_it_is_finished(place, by_f1, capsys):
  config = json.loads((by_f1.workdir / "config.json").read_text())
  config.pop("resolved")
  assert train.run(config, by_f1.workdir) == 0
  assert "finished" in capsys.readouterr().out
