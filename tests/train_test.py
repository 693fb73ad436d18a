"""Whole runs on a tiny encoder: what they leave, and how they stop and go on."""

import json
import re
import shutil
import signal
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pyarrow.parquet as pq
import pytest

from ssljax import methods
from tests import runs
from tests.runs import STEPS, result, run, start

# A method's state is nothing, tables, averaged parameters or queues: one of each.
# methods_test.py restores them all.
KINDS = ["supervised", "multimatch", "mean_teacher", "comatch"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return runs.folder(tmp_path_factory.mktemp("runs"))


def lines(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def undisturbed(place):
  """One finished run for each method: (workdir, exit code, what it printed)."""
  done = {}

  def of(name):
    if name not in done:
      workdir = place / f"undisturbed-{name}"
      done[name] = (workdir, *run(name, workdir, place=place))
    return done[name]

  return of


def of_each_need() -> list[str]:
  """A method for each that the model or the batches must have: a rule makes no run."""
  found = {}
  for name in (*KINDS, "fixmatch", *methods.names()):
    needs = methods.make({"name": name}).needs._replace(relative=False, soft=False)
    found.setdefault(repr(needs), name)
  return list(found.values())


@pytest.mark.parametrize("name", of_each_need())
def test_a_run_leaves_what_is_promised(name, undisturbed):
  workdir, code, printed = undisturbed(name)
  assert code == 0, printed
  assert "Warning" not in printed
  found = result(workdir)
  assert found["method"] == name
  if name == "supervised":  # the words give the label away, and 24 steps are enough
    assert found["test"]["f1"] > 0.8
  assert (workdir / "config.json").exists()
  table = pq.read_table(workdir / "predictions" / "test.parquet")
  assert table.column_names == [
    *("id", "label", "score", "logits"),
    *("text", "response", "category", "source"),
  ]
  assert table.num_rows == 40
  assert (workdir / "report.html").stat().st_size > 10_000
  seen = [(line["step"], line["split"]) for line in lines(workdir)]
  assert len(seen) == len(set(seen))
  assert (STEPS, "train") in seen
  used = [line["mask_rate"] for line in lines(workdir) if "mask_rate" in line]
  assert ("no pseudo-label counted" in printed) == (bool(used) and not any(used))
  train = [line for line in lines(workdir) if line["split"] == "train"][-1]
  wanted = {"loss", "labelled", "step_seconds", "examples_per_second"}
  wanted |= {"tokens_per_second", "real_token_share"}
  assert wanted <= set(train)


@pytest.mark.parametrize("name", KINDS)
def test_killed_and_started_again_ends_at_the_same_bits(name, place, undisturbed):
  workdir = place / f"killed-{name}"
  process = start(name, workdir, place=place)
  checkpoints = workdir / "checkpoints"
  deadline = time.monotonic() + 200
  while process.poll() is None and time.monotonic() < deadline:
    saved = [p for p in checkpoints.glob("*") if p.name.isdigit()]
    if saved:
      process.send_signal(signal.SIGKILL)
      break
    time.sleep(0.01)
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  code, printed = run(name, workdir, place=place)
  assert code == 0, printed
  assert int(re.search(r"resumed at step (\d+)", printed)[1]) > 0
  straight, resumed = result(undisturbed(name)[0]), result(workdir)
  for key in ("params_sha256", "state_sha256", "step", "test"):
    assert straight[key] == resumed[key]
  timed = {"step_seconds", "examples_per_second", "tokens_per_second"}

  def plain(folder):
    return [{k: v for k, v in ln.items() if k not in timed} for ln in lines(folder)]

  assert plain(undisturbed(name)[0]) == plain(workdir)


def test_a_finished_run_says_so_and_changes_nothing(place, undisturbed):
  workdir = undisturbed("fixmatch")[0]
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
  code, printed = run("fixmatch", workdir, place=place)
  assert code == 0
  assert "finished" in printed
  assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}


def test_another_config_in_the_workdir_is_refused(place, undisturbed):
  workdir = undisturbed("fixmatch")[0]
  for change, said in (
    ("--config.seed=1", "seed: 0 there, 1 now"),
    (f"--config.data={place}/data/train.jsonl", "data: "),
  ):
    code, printed = run("fixmatch", workdir, change, place=place)
    assert code == 2
    assert said in printed
    assert len(printed.splitlines()) == 1  # before data and weights were read


def test_the_same_files_with_other_texts_are_refused(place):
  there = place / "changing"
  shutil.copytree(place / "data", there)
  workdir, data = place / "changed", f"--config.data={there}"
  assert run("supervised", workdir, data, "--config.steps=2", place=place)[0] == 0
  (workdir / "result.json").unlink()
  for name in ("train", "val"):  # what is trained on, and what chooses
    file = there / f"{name}.jsonl"
    before = file.read_text()
    file.write_text(before.replace("bread", "bake"))
    code, printed = run("supervised", workdir, data, "--config.steps=2", place=place)
    file.write_text(before)
    assert code == 2
    assert "resolved.data_sha256: " in printed


def test_a_result_that_was_damaged_is_written_again(place, undisturbed):
  workdir = place / "damaged"
  shutil.copytree(undisturbed("supervised")[0], workdir)
  (workdir / "result.json").write_text('{"test": {')
  code, printed = run("supervised", workdir, place=place)
  assert code == 0, printed
  assert result(workdir)["test"] == result(undisturbed("supervised")[0])["test"]


def test_sigterm_saves_and_the_next_run_ends_at_the_same_bits(place, undisturbed):
  workdir = place / "terminated"
  process = start("fixmatch", workdir, place=place)
  while not list((workdir / "checkpoints").glob("[0-9]*")):
    assert process.poll() is None
    time.sleep(0.01)
  process.terminate()
  printed, _ = process.communicate(timeout=200)
  assert process.returncode == 143, printed
  code, printed = run("fixmatch", workdir, place=place)
  assert code == 0, printed
  assert (
    result(workdir)["state_sha256"]
    == (result(undisturbed("fixmatch")[0])["state_sha256"])
  )


@pytest.mark.parametrize("rate", ["1e30", "1e38"])
def test_what_is_not_finite_stops_the_run_and_is_not_kept(place, rate):
  workdir = place / f"burst-{rate}"
  more = [f"--config.learning_rate={rate}", "--config.warmup=0"]
  more += ["--config.checkpoint_every=1"]
  code, printed = run("supervised", workdir, *more, place=place)
  assert code == 1
  assert re.search(r"the loss is \S+ at step \d+ and its update \S+ \(", printed)
  assert "Traceback" not in printed
  for folder in (workdir / "checkpoints").glob("[0-9]*"):
    arrays = ocp.StandardCheckpointer().restore(folder.absolute() / "state")
    for leaf in jax.tree.leaves(arrays["params"]):
      assert np.isfinite(leaf).all()


@pytest.mark.parametrize(("parallel", "imbalance"), [("jit", 0), ("pmap", 3)])
def test_a_dry_run_prints_the_plan_and_writes_nothing(place, parallel, imbalance):
  workdir = place / "dry"
  more = ["--config.dry_run=true", f"--config.parallel={parallel}"]
  more += ["--config.wrapper.name=abc", f"--config.labelled_imbalance={imbalance}"]
  code, printed = run("multimatch", workdir, *more, place=place)
  assert code == 0, printed
  even = "labelled texts: abc balances nothing by their numbers"
  assert (even in printed) == (not imbalance)
  assert (f"each class has 8 {even}" in printed) == (not imbalance)
  for part in (
    "16 labelled",
    "cut at 32 tokens: 0.0% of train (weak), 0.0% of train (strong)",
    "step shape",
    "real tokens",
    "besides",
  ):
    assert part in printed
  assert not workdir.exists()


def test_evaluate_scores_any_labelled_file(place, undisturbed):
  workdir = undisturbed("multimatch")[0]
  done = runs.evaluate(place, workdir, place / "data" / "test.jsonl")
  assert done.returncode == 0, done.stderr
  metrics = json.loads((workdir / "evaluations" / "test" / "metrics.json").read_text())
  assert metrics["test"] == result(workdir)["test"]
  # Another file of that name does not take its place.
  (place / "other").mkdir()
  shutil.copy(place / "data" / "test.jsonl", place / "other")
  done = runs.evaluate(place, workdir, place / "other" / "test.jsonl")
  assert done.returncode == 2
  assert "holds the evaluation of" in done.stderr


def test_evaluate_takes_the_runs_own_test_texts_without_data(place, undisturbed):
  workdir = undisturbed("supervised")[0]
  output = place / "own"
  done = runs.evaluate(place, workdir, None, f"--output={output}")
  assert done.returncode == 0, done.stderr
  metrics = json.loads((output / "metrics.json").read_text())
  assert metrics["test"] == result(workdir)["test"]
  # As a kill between the two files leaves it.
  (output / "predictions.parquet").unlink()
  assert runs.evaluate(place, workdir, None, f"--output={output}").returncode == 0
  assert (output / "predictions.parquet").exists()
  # Other texts in its place are not the run's own.
  moved = place / "moved"
  shutil.copytree(workdir, moved)
  config = json.loads((moved / "config.json").read_text())
  shutil.copytree(place / "data", place / "else")
  test = place / "else" / "test.jsonl"
  test.write_text(test.read_text().replace("bread", "bake"))
  (moved / "config.json").write_text(json.dumps({**config, "data": f"{place}/else"}))
  done = runs.evaluate(place, moved, None, f"--output={place}/no")
  assert done.returncode == 2
  assert "not what the run was tested on" in done.stderr
  assert not (place / "no").exists()
  done = runs.evaluate(place, workdir, None, "--slices=turn")
  assert done.returncode == 2
  assert "name it by --data" in done.stderr


def test_evaluate_tells_the_values_of_a_column_apart(place, undisturbed):
  workdir = undisturbed("supervised")[0]
  rows = (place / "data" / "test.jsonl").read_text().splitlines()
  marked = place / "marked.jsonl"
  marked.write_text(
    "".join(
      json.dumps({**json.loads(row), "turn": i % 2, "alike": "yes"}) + "\n"
      for i, row in enumerate(rows)
    )
  )
  done = runs.evaluate(place, workdir, marked, "--slices=turn,alike")
  assert done.returncode == 0, done.stderr
  found = json.loads((workdir / "evaluations/marked/metrics.json").read_text())
  report = (workdir / "evaluations/marked/report.html").read_text()
  assert "turn: 0" in report
  assert "supervised on marked.jsonl" in report
  turns = [one for one in found["slices"] if one["column"] == "turn"]
  # Labels alternate with the rows: each part has one class only.
  assert sorted(one["value"] for one in turns) == ["0", "1"]
  assert sorted(one["harmful"] for one in turns) == [0, len(rows) // 2]
  assert all(one["count"] == len(rows) // 2 for one in turns)
  assert "--slices=alike: the column has one value only (yes)" in done.stdout
  done = runs.evaluate(place, workdir, marked, "--slices=absent")
  assert done.returncode == 2
  assert "absent" in done.stderr


def test_evaluate_of_one_class_says_what_there_is_not(place, undisturbed):
  workdir = undisturbed("supervised")[0]
  harmless = place / "harmless.jsonl"
  rows = (place / "data" / "test.jsonl").read_text().splitlines(keepends=True)
  harmless.write_text("".join(row for row in rows if json.loads(row)["label"] == 0))
  done = runs.evaluate(place, workdir, harmless)
  assert done.returncode == 0, done.stderr
  found = json.loads((workdir / "evaluations/harmless/metrics.json").read_text())
  for name in ("auroc", "f1", "recall"):
    assert found["test"][name] is None
    assert found["test"]["undefined"][name]
  assert found["test"]["accuracy"] is not None
  assert found["thresholds"]["best_f1"]["false_positive_rate"] is not None


def test_a_run_killed_before_its_result_writes_the_test_line_once(place, undisturbed):
  workdir = place / "unfinished"
  shutil.copytree(undisturbed("fixmatch")[0], workdir)
  (workdir / "result.json").unlink()
  code, printed = run("fixmatch", workdir, place=place)
  assert code == 0, printed
  assert lines(workdir) == lines(undisturbed("fixmatch")[0])


def test_what_a_kill_left_of_a_first_file_is_in_nobodys_way(place):
  workdir = place / "leftover"
  workdir.mkdir()
  (workdir / ".config.json.17").write_text("{")
  (workdir / "slurm.out").write_text("")
  code, printed = run("supervised", workdir, "--config.steps=2", place=place)
  assert code == 0, printed


def test_a_run_that_used_no_unlabelled_text_says_so(place):
  """MultiMatch has no cut-offs before its first epoch ends, and here that is all."""
  code, printed = run("multimatch", place / "idle", "--config.steps=2", place=place)
  assert code == 0, printed
  assert "mask_rate 0" in printed
