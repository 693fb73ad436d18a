"""Whole training runs on a tiny encoder: their files, stopping and continuing.

A single file, since its tests share runs that take seconds each.
"""

import csv
import json
import re
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pyarrow.parquet as pq
import pytest

from ssljax import SafetyClassifier, export, run_config
from ssljax.errors import UserError
from ssljax.evals.runs import read_run
from ssljax.models import hf
from ssljax.training import optim, pytrees
from tests import runs
from tests.runs import STEPS, result, run, start

pytestmark = pytest.mark.slow

# One method per kind of state: tables and averaged parameters, queues, two networks.
# methods_test.py restores the state of every method.
KINDS = {
  "multimatch": ["--config.ema=0.9"],
  "comatch": [],
  "jointmatch": [
    "--config.method.threshold=0.5",
    "--config.head=hf",
    "--config.accumulation=2",
    "--config.ema=0.9",
  ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return runs.folder(tmp_path_factory.mktemp("runs"))


def read_metrics(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


def wait_for_checkpoint(process, workdir):
  """Waits until a checkpoint is complete; before, its name has a suffix."""
  deadline = time.monotonic() + runs.TIMEOUT
  while not any(p.name.isdigit() for p in (workdir / "checkpoints").glob("*")):
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.01)


@pytest.fixture(scope="module")
def finished(place):
  """Trains a method once: name -> (workdir, exit code, output)."""
  runs_by_name = {}

  def finished_run(name):
    if name not in runs_by_name:
      workdir = place / f"finished-{name}"
      # One of them starts as a user starts it, in a new interpreter.
      fresh = name == "supervised"
      more = KINDS.get(name, [])
      more = [*more, "--config.profile=10"] if fresh else more
      done = run(name, workdir, *more, place=place, fresh=fresh)
      runs_by_name[name] = (workdir, *done)
    return runs_by_name[name]

  return finished_run


# Besides them a method without unlabelled texts and one with a medium view.
# methods_test.py trains all methods.
@pytest.mark.parametrize("name", [*KINDS, "supervised", "fixmatch", "sequencematch"])
def test_a_run_writes_all_its_files(name, finished):
  workdir, code, printed = finished(name)
  assert code == 0, printed
  assert "Warning" not in printed
  metrics = result(workdir)
  assert metrics["method"] == name
  if name == "supervised":  # the words give the label away, so 24 steps are enough
    assert metrics["test"]["auroc"] > 0.9
  config = json.loads((workdir / "config.json").read_text())
  encoder = Path(config["encoder"])
  assert config["resolved"]["tokenizer_sha256"] == hf.tokenizer_sha256(encoder)
  weights, _ = hf.load_params(encoder, hf.read_config(encoder))
  assert config["resolved"]["weights_sha256"] == pytrees.sha256(weights)
  table = pq.read_table(workdir / "predictions" / "test.parquet")
  assert table.column_names == [
    *("id", "label", "score", "logits"),
    *("text", "response", "category", "source"),
  ]
  assert table.num_rows == 40
  assert (workdir / "report.html").stat().st_size > 10_000
  lines = read_metrics(workdir)
  keys = [(line["step"], line["split"]) for line in lines]
  assert len(keys) == len(set(keys))
  assert (STEPS, "train") in keys
  mask_rates = [line["mask_rate"] for line in lines if "mask_rate" in line]
  unused = bool(mask_rates) and not any(mask_rates)
  assert ("mask_rate 0" in printed) == unused
  if name == "fixmatch":  # its threshold is too high for 24 steps
    assert unused
  last = [line for line in lines if line["split"] == "train"][-1]
  fields = {"loss", "labelled", "step_seconds", "examples_per_second"}
  fields |= {"tokens_per_second", "real_token_share", "host_share"}
  fields |= {"learning_rate", "param_norm"}
  assert fields <= set(last)
  assert 0 <= last["host_share"] <= 1
  assert last["param_norm"] > 1
  rate = optim.schedule(config["learning_rate"], config["resolved"]["warmup"], STEPS)
  assert last["learning_rate"] == pytest.approx(float(rate(STEPS - 1)))
  traces = [p for p in (workdir / "profile").rglob("*.xplane.pb") if p.stat().st_size]
  assert len(traces) == (name == "supervised")


def kill_and_continue(name, workdir, *more, place):
  process = start(name, workdir, *more, place=place)
  wait_for_checkpoint(process, workdir)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  code, printed = run(name, workdir, *more, place=place)
  assert code == 0, printed
  assert int(re.search(r"resumed at step (\d+)", printed)[1]) > 0


@pytest.mark.faults
@pytest.mark.parametrize("name", KINDS)
def test_a_killed_run_continues_to_identical_bits(name, place, finished):
  workdir = place / f"killed-{name}"
  kill_and_continue(name, workdir, *KINDS[name], place=place)
  uninterrupted = finished(name)[0]
  straight, resumed = result(uninterrupted), result(workdir)
  for key in ("params_sha256", "state_sha256", "step", "test"):
    assert straight[key] == resumed[key]
  timings = {"step_seconds", "examples_per_second", "tokens_per_second", "host_share"}

  def without_timings(folder):
    return [
      {name: value for name, value in line.items() if name not in timings}
      for line in read_metrics(folder)
    ]

  assert without_timings(uninterrupted) == without_timings(workdir)


@pytest.mark.faults
def test_a_killed_run_continues_with_batches_of_the_same_shapes(tmp_path):
  place = runs.folder(tmp_path, lengths=(6, 8))
  killed, straight = tmp_path / "killed", tmp_path / "straight"
  options = ["--config.order=random"]  # its batches have several shapes
  _, printed = run("supervised", killed, *options, "--config.dry_run=true", place=place)
  assert printed.count("step shape") > 1
  kill_and_continue("supervised", killed, *options, place=place)
  code, printed = run("supervised", straight, *options, place=place)
  assert code == 0, printed
  assert result(killed)["state_sha256"] == result(straight)["state_sha256"]


def test_a_finished_run_says_so_and_changes_nothing(place, finished):
  workdir = finished("fixmatch")[0]
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
  code, printed = run("fixmatch", workdir, place=place)
  assert code == 0
  assert "finished" in printed
  assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}


def test_a_workdir_with_another_config_is_refused(place, finished):
  workdir = finished("fixmatch")[0]
  for change, said in (
    ("--config.seed=1", "seed: 0 in the run, 1 now"),
    (f"--config.data={place}/data/train.jsonl", "data: "),
  ):
    code, printed = run("fixmatch", workdir, change, place=place)
    assert code == 2
    assert said in printed
    assert len(printed.splitlines()) == 1  # before data and weights were read


def test_changed_texts_in_the_same_files_are_refused(place):
  copy = place / "changing"
  shutil.copytree(place / "data", copy)
  workdir, data = place / "changed", f"--config.data={copy}"
  assert run("supervised", workdir, data, "--config.steps=2", place=place)[0] == 0
  (workdir / "result.json").unlink()
  for name in ("train", "val"):
    file = copy / f"{name}.jsonl"
    before = file.read_text()
    file.write_text(before.replace("bread", "bake"))
    code, printed = run("supervised", workdir, data, "--config.steps=2", place=place)
    file.write_text(before)
    assert code == 2
    assert "resolved.rows_sha256: " in printed


def test_a_damaged_result_is_written_again(place, finished):
  workdir = place / "damaged"
  shutil.copytree(finished("supervised")[0], workdir)
  (workdir / "result.json").write_text('{"test": {')
  code, printed = run("supervised", workdir, place=place)
  assert code == 0, printed
  assert result(workdir)["test"] == result(finished("supervised")[0])["test"]


@pytest.mark.faults
def test_sigterm_saves_and_the_run_continues_to_identical_bits(place, finished):
  workdir = place / "terminated"
  process = start("fixmatch", workdir, place=place)
  wait_for_checkpoint(process, workdir)
  process.terminate()
  printed, _ = process.communicate()
  assert process.returncode == 143, printed
  code, printed = run("fixmatch", workdir, place=place)
  assert code == 0, printed
  uninterrupted = finished("fixmatch")[0]
  assert result(workdir)["state_sha256"] == result(uninterrupted)["state_sha256"]


@pytest.mark.parametrize("rate", ["1e30", "1e38"])
def test_a_non_finite_loss_stops_the_run_and_is_not_saved(place, rate):
  workdir = place / f"diverged-{rate}"
  more = [f"--config.learning_rate={rate}", "--config.warmup=0"]
  more += ["--config.checkpoint_every=1"]
  code, printed = run("supervised", workdir, *more, place=place)
  assert code == 1
  assert re.search(
    r"the loss is \S+ at step \d+, and the norm of the update is \S+ \(", printed
  )
  assert "Traceback" not in printed
  for folder in (workdir / "checkpoints").glob("[0-9]*"):
    state = ocp.StandardCheckpointer().restore(folder.absolute() / "state")
    for leaf in jax.tree.leaves(state["params"]):
      assert np.isfinite(leaf).all()


@pytest.mark.parametrize(("parallel", "imbalance"), [("jit", 0), ("pmap", 3)])
def test_a_dry_run_prints_the_plan_and_writes_nothing(place, parallel, imbalance):
  workdir = place / "dry"
  more = ["--config.dry_run=true", f"--config.parallel={parallel}"]
  more += ["--config.wrapper.name=abc", f"--config.labelled_imbalance={imbalance}"]
  code, printed = run("fixmatch", workdir, *more, place=place)
  assert code == 0, printed
  even = "labelled texts: abc has no effect on the class balance"
  assert (even in printed) == (not imbalance)
  assert (f"each class has 8 {even}" in printed) == (not imbalance)
  for part in (
    "16 labelled",
    "cut at 32 tokens: 0.0% of train (weak), 0.0% of train (strong)",
    "step shape",
    "real tokens",
    "per device",
  ):
    assert part in printed
  assert not workdir.exists()


def test_two_networks_predict_together_and_are_not_exported(place, finished):
  workdir, folder = finished("jointmatch")[0], place / "exported"
  predictions = read_run(workdir).predictions()
  scores = SafetyClassifier.load(workdir)(list(predictions.text))
  np.testing.assert_allclose(scores, predictions.score, atol=1e-5)
  done = runs.evaluate(place, workdir, None, f"--output={place / 'evaluated'}")
  assert done.returncode == 0, done.stderr
  metrics = json.loads((place / "evaluated" / "metrics.json").read_text())
  assert metrics["test"] == result(workdir)["test"]
  message = f"jointmatch predicts with 2 networks.*predict --model={workdir}"
  with pytest.raises(UserError, match=message) as error:
    export.export(workdir, folder)
  assert "\n" not in str(error.value)
  assert not list(place.glob("*exported*"))


def test_evaluate_scores_any_labelled_file(place, finished):
  workdir = finished("multimatch")[0]
  done = runs.evaluate(place, workdir, place / "data" / "test.jsonl")
  assert done.returncode == 0, done.stderr
  metrics = json.loads((workdir / "evaluations" / "test" / "metrics.json").read_text())
  assert metrics["test"] == result(workdir)["test"]
  assert "test.jsonl: scoring all 40 rows" in done.stdout
  assert "warning" not in done.stdout
  # A CSV with other names of columns, and class names, has the same texts.
  rows = map(json.loads, (place / "data" / "test.jsonl").read_text().splitlines())
  names = run_config.read(workdir)["resolved"]["labels"]
  with open(place / "named.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["prompt", "answer", "verdict"])
    for row in rows:
      writer.writerow([row["text"], row.get("response"), names[row["label"]]])
  columns = "--columns=text=prompt,response=answer,label=verdict"
  done = runs.evaluate(place, workdir, place / "named.csv", columns)
  assert done.returncode == 0, done.stderr
  named = json.loads((workdir / "evaluations" / "named" / "metrics.json").read_text())
  assert named["test"]["auroc"] == metrics["test"]["auroc"]
  assert named["test"]["confusion_matrix"] == metrics["test"]["confusion_matrix"]
  # The evaluation of other rows in a file with the same name is refused.
  (place / "other").mkdir()
  shutil.copy(place / "data" / "test.jsonl", place / "other")
  swap_labels(place / "other" / "test.jsonl")
  done = runs.evaluate(place, workdir, place / "other" / "test.jsonl")
  assert done.returncode == 2
  assert "holds the evaluation of" in done.stderr


def swap_labels(path):
  rows = map(json.loads, path.read_text().splitlines())
  rows = [json.dumps({**row, "label": 1 - row["label"]}) for row in rows]
  path.write_text("\n".join(rows))


def test_evaluate_counts_rows_and_says_that_labels_are_swapped(place, finished):
  workdir, folder = finished("supervised")[0], place / "swapped"
  shutil.copytree(place / "data", folder)
  swap_labels(folder / "test.jsonl")
  test = folder / "test.jsonl"
  row = json.loads(test.read_text().splitlines()[0])
  again = {**row, "id": "again", "label": 1 - row["label"]}
  test.write_text(f"{test.read_text()}\n{json.dumps(again)}")
  total = sum(len(file.read_text().splitlines()) for file in folder.iterdir())
  done = runs.evaluate(place, workdir, folder)
  assert f"{folder}: scoring 41 of {total} rows" in done.stdout
  assert f"1 text has more than one label: {test}, line 1 (label" in done.stdout
  assert "warning: the AUROC on these texts is 0." in done.stdout
  # A damaged train file is no reason to fail.
  (folder / "train.jsonl").write_text("{")
  done = runs.evaluate(place, workdir, folder)
  assert done.returncode == 0, done.stderr
  assert f"{folder}: scoring 41 rows of test; the rows of other" in done.stdout
  assert f"({folder / 'train.jsonl'}, line 1: not valid JSON" in done.stdout


def test_a_run_says_that_the_labels_of_validation_are_swapped(place):
  other = place / "other-validation"
  shutil.copytree(place / "data", other)
  swap_labels(other / "val.jsonl")
  _, printed = run("supervised", place / "o", f"--config.data={other}", place=place)
  assert "warning: the AUROC on validation is 0." in printed
  assert "AUROC on test" not in printed


def test_evaluate_defaults_to_the_test_texts_of_the_run(place, finished):
  workdir = finished("supervised")[0]
  output = place / "own"
  done = runs.evaluate(place, workdir, None, f"--output={output}")
  assert done.returncode == 0, done.stderr
  metrics = json.loads((output / "metrics.json").read_text())
  assert metrics["test"] == result(workdir)["test"]
  # A kill after the first of its two files.
  (output / "predictions.parquet").unlink()
  assert runs.evaluate(place, workdir, None, f"--output={output}").returncode == 0
  assert (output / "predictions.parquet").exists()
  # The test file of the run has changed.
  moved = place / "moved"
  shutil.copytree(workdir, moved)
  config = json.loads((moved / "config.json").read_text())
  shutil.copytree(place / "data", place / "else")
  test = place / "else" / "test.jsonl"
  test.write_text(test.read_text().replace("bread", "bake"))
  (moved / "config.json").write_text(json.dumps({**config, "data": f"{place}/else"}))
  done = runs.evaluate(place, moved, None, f"--output={place}/no")
  assert done.returncode == 2
  assert "not those the run was tested on" in done.stderr
  assert not (place / "no").exists()
  done = runs.evaluate(place, workdir, None, "--slices=turn")
  assert done.returncode == 2
  assert "needs --data" in done.stderr


def test_evaluate_reports_slices_by_column(place, finished):
  workdir = finished("supervised")[0]
  rows = (place / "data" / "test.jsonl").read_text().splitlines()
  marked = place / "marked.jsonl"
  marked.write_text(
    "".join(
      json.dumps({**json.loads(row), "turn": i % 2, "same": "yes"}) + "\n"
      for i, row in enumerate(rows)
    )
  )
  done = runs.evaluate(place, workdir, marked, "--slices=turn,same")
  assert done.returncode == 0, done.stderr
  metrics = json.loads((workdir / "evaluations/marked/metrics.json").read_text())
  report = (workdir / "evaluations/marked/report.html").read_text()
  assert "turn: 0" in report
  assert "supervised on marked.jsonl" in report
  slices = [part for part in metrics["slices"] if part["column"] == "turn"]
  # Labels alternate with the rows: each slice has one class only.
  assert sorted(part["value"] for part in slices) == ["0", "1"]
  assert sorted(part["harmful"] for part in slices) == [0, len(rows) // 2]
  assert all(part["count"] == len(rows) // 2 for part in slices)
  assert "--slices=same: the column has only one value (yes)" in done.stdout
  done = runs.evaluate(place, workdir, marked, "--slices=absent")
  assert done.returncode == 2
  assert "absent" in done.stderr


def test_evaluate_on_one_class_says_which_metrics_are_undefined(place, finished):
  workdir = finished("supervised")[0]
  harmless = place / "harmless.jsonl"
  rows = (place / "data" / "test.jsonl").read_text().splitlines(keepends=True)
  harmless.write_text("".join(row for row in rows if json.loads(row)["label"] == 0))
  done = runs.evaluate(place, workdir, harmless)
  assert done.returncode == 0, done.stderr
  metrics = json.loads((workdir / "evaluations/harmless/metrics.json").read_text())
  for name in ("auroc", "f1", "recall"):
    assert metrics["test"][name] is None
    assert metrics["test"]["undefined"][name]
  assert metrics["test"]["accuracy"] is not None
  assert metrics["thresholds"]["best_f1"]["false_positive_rate"] is not None


def test_a_run_killed_before_its_result_writes_the_test_line_once(place, finished):
  workdir = place / "unfinished"
  shutil.copytree(finished("fixmatch")[0], workdir)
  (workdir / "result.json").unlink()
  code, printed = run("fixmatch", workdir, place=place)
  assert code == 0, printed
  assert read_metrics(workdir) == read_metrics(finished("fixmatch")[0])


def test_temporary_files_and_logs_in_the_workdir_are_ignored(place):
  workdir = place / "leftover"
  workdir.mkdir()
  (workdir / ".config.json.17").write_text("{")
  (workdir / "slurm.out").write_text("")
  code, printed = run("supervised", workdir, "--config.steps=2", place=place)
  assert code == 0, printed


def test_a_run_in_bfloat16_is_scored_as_its_export_is_in_float32(place):
  workdir, folder = place / "half", place / "half-exported"
  code, printed = run("supervised", workdir, "--config.dtype=bfloat16", place=place)
  assert code == 0, printed
  predictions = read_run(workdir).predictions()
  export.export(workdir, folder)
  for model in (workdir, folder):
    scores = SafetyClassifier.load(model)(list(predictions.text))
    np.testing.assert_allclose(scores, predictions.score, atol=1e-5)
