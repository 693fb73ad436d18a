"""Expansion of sweep files, and which folders count as a finished run."""

import shutil

import pytest

from ssljax import config_files, methods
from ssljax.errors import UserError
from ssljax.sweeps import plan
from tests.sweeps.files import DATA, expand, finish, write_sweep

PACKAGED = sorted(path.stem for path in config_files.folder("sweeps").glob("*.py"))
FLAGS = ("--config.data=somewhere",)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.mark.parametrize("name", PACKAGED)
def test_the_packaged_sweeps_are_valid(name):
  sweep = plan.expand(name, name, FLAGS)  # checks every config
  assert len({run.workdir for run in sweep}) == len(sweep)
  for run in sweep:
    assert run.config["data"] == "somewhere"
    assert run.config["name"] == run.source
  seeds = {run.config["seed"] for run in sweep}
  assert seeds == set(range({"smoke": 2, "filters": 1}.get(name, 3)))


def test_the_packaged_sweeps_have_the_runs_that_they_describe():
  sweeps = {name: plan.expand(name, name, FLAGS) for name in PACKAGED}
  assert {run.source for run in sweeps["methods"]} == set(methods.names())
  assert len(sweeps["methods"]) == 3 * len(methods.names())
  assert {run.config["labels"] for run in sweeps["label_budget"]} == {
    *(50, 100, 200, 400, 0)
  }
  assert {run.config["strong"] for run in sweeps["views"]} == {
    *(("words",), ("eda",), ("backtranslation",))
  }
  assert len(sweeps["smoke"]) == 4


def test_changes_and_flags_reach_the_config(place):
  changes = {
    "data": DATA,
    "strong": ("eda", "words"),
    "verify": True,
    "learning_rate": 1e-4,
    "method.threshold": 0.9,
    "steps": 7,
  }
  path = write_sweep(place, ("one", "fixmatch:response+abc", changes))
  (run,) = plan.expand(str(path), "mine", ["--config.steps=9", "--config.labels=40"])
  assert run.arguments[:2] == [
    "--config=fixmatch:response+abc",
    "--workdir=runs/mine/one",
  ]
  for path, value in {**changes, "steps": 9, "labels": 40}.items():
    assert run.changes()[path] == value
    config = run.config
    for key in path.split("."):
      config = config[key]
    assert config == value
  assert [flag for flag in run.flags if "steps" in flag] == ["--config.steps=9"]
  assert run.config["wrapper"]["name"] == "abc"
  assert run.config["max_length"] == 1024  # of the response task


@pytest.mark.parametrize(
  ("runs", "message"),
  [
    ([], "yields no run"),
    ([("a", "fixmatch")], r"yields \('a', 'fixmatch'\); it must yield"),
    ([("a/b", "fixmatch", {})], "must yield a name"),
    ([("a", "fixmatch", {"stepz": 3})], r"sweep.py, run a: .*stepz.*'steps'"),
    ([("a", "fixmatch", {"steps": "many"})], r"sweep.py, run a: .*steps"),
    ([("a", "fixmatch", {"data": ""})], r"sweep.py, run a: no data"),
    ([("a", "fixmetch", {})], r"run a: .*'fixmatch'"),
    ([("a", "fixmatch", {"dry_run": True})], r"run a: .*dry_run.*--print"),
    ([("a", "fixmatch", {}), ("a", "vat", {})], "two runs are called a"),
    ([("a", "fixmatch", {}), ("b", "fixmatch", {"steps": 0})], "a and b are the same"),
    (
      [("a", "vat", {"log_every": 7}), ("b", "vat", {"checkpoint_every": 8})],
      "a and b are the same",
    ),
  ],
)
def test_mistakes_name_the_file_and_the_run(place, runs, message):
  runs = [(*run[:2], {"data": DATA, **run[2]}) if run[2:] else run for run in runs]
  path = write_sweep(place, *runs)
  with pytest.raises(UserError, match=message):
    plan.expand(str(path), "mine")


def test_a_sweep_file_that_fails_is_named_with_its_line(place):
  path = place / "broken.py"
  path.write_text("def runs():\n  yield 'a', 'vat', {'data': 'd'}\n  1 / 0\n")
  with pytest.raises(UserError, match=r"broken.py, line 3: ZeroDivisionError"):
    plan.expand(str(path), "mine")
  with pytest.raises(UserError, match=r"--sweep=smokey: no config .*'smoke'"):
    plan.expand("smokey", "mine")
  with pytest.raises(UserError, match="--name=a/b"):
    plan.expand("smoke", "a/b")


def test_a_sweep_has_the_name_of_its_file():
  assert plan.sweep_name("configs/sweeps/smoke.py") == "smoke"
  assert plan.sweep_name("methods:response") == "methods-response"


def test_a_finished_run_counts_only_with_the_config_that_is_asked_for(place):
  a, b = expand(place, "a", "b")
  assert a.result() is None
  finish(a)
  assert a.result()["method"] == "supervised"
  finish(b, steps=5)
  with pytest.raises(UserError, match=r"runs/sweep/b holds .*\(steps: 5 in the run, 4"):
    b.result()
  shutil.rmtree(b.workdir)
  finish(b, log_every=99)
  with pytest.raises(UserError, match="log_every"):
    b.result()
  (a.workdir / "result.json").unlink()
  assert a.result() is None
  shutil.rmtree(a.workdir)
  a.workdir.mkdir()
  a.log.write_text("a run that failed before its first step")
  assert a.result() is None
  (a.workdir / "notes.md").write_text("")
  with pytest.raises(UserError, match="holds no run"):
    a.result()


def test_a_finished_run_on_other_data_is_left_to_training(place):
  (run,) = expand(place, "a")
  finish(run, data=str(place / "elsewhere"))
  # Without hashes, the paths are compared; with hashes, training compares the content.
  with pytest.raises(UserError, match=r"data: '.*elsewhere'"):
    run.result()
  shutil.rmtree(run.workdir)
  resolved = {"labels": ["a", "b"], "rows_sha256": "0"}
  finish(run, data=str(place / "elsewhere"), resolved=resolved)
  assert run.result() is None
