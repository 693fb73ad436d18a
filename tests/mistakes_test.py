"""A mistake of the user ends in one line and exit code 2, and writes nothing."""

import json
import os
import subprocess
import sys

import pytest

from ssljax import cli, main
from ssljax.errors import UserError
from tests import runs
from tests.runs import ROOT, run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return runs.folder(tmp_path_factory.mktemp("mistakes"))


@pytest.mark.parametrize(
  ("flag", "said"),
  [
    ("--config.stepz=3", '--config.stepz: Did you mean "steps" instead of "stepz"?'),
    ("--config.steps=many", "steps"),
    ("--config.method.treshold=1", "threshold"),
    ("--config.wrapper.tau=0.5", "--config=configs/METHOD.py:prompt+WRAPPER"),
    ("--config.method.power=0.5", "config.method.power: fixmatch has scale, threshold"),
    ("--config.labels.most=1", "unknown config key --config.labels.most"),
    ("--config.data=nowhere", "nowhere"),
    ("--config.labels=1000", "label"),
    ("--config.labels=-1", "labels"),
    ("--config.head=big", "mlp"),
    ("--config.encoder=nowhere/at-all", "nowhere/at-all"),
    ("--config.strong=llm", "missing_view"),
    ("--config.max_length=4096", "max_length"),
    ("--config.select=kappa", "f1"),
    ("--config.unlabelled_ratio=50", "unlabelled"),
  ],
)
def test_a_mistake_is_one_line_and_exit_code_2(place, flag, said):
  workdir = place / "mistake"
  code, printed = run("fixmatch", workdir, flag, place=place)
  assert code == 2, printed
  errors = [line for line in printed.splitlines() if line.startswith("error: ")]
  assert len(errors) == 1
  assert said in errors[0]
  assert "Traceback" not in printed
  assert not workdir.exists()


def test_a_method_that_needs_more_texts_a_step_says_so(place):
  more = ("--config.batch=1", "--config.unlabelled_ratio=1", "--config.strong=self")
  code, printed = run("comatch", place / "few", *more, place=place)
  assert code == 2, printed
  assert "error: comatch needs 2 unlabelled texts per step" in printed
  assert not (place / "few").exists()


@pytest.mark.parametrize("program", ["ssljax.main", "ssljax.augment"])
def test_without_a_config_one_is_suggested(program):
  more = ["--data=x"] if program == "ssljax.augment" else []
  done = subprocess.run(
    [sys.executable, "-m", program, *more],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  assert done.stderr.startswith("error: no config: give --config=configs/")
  assert len(done.stderr.splitlines()) == 1


def test_a_config_is_found_from_any_folder_and_its_mistakes_are_one_line(place):
  bad = place / "bad.py"
  bad.write_text("import nothing_of_this_name\n")
  for config, code, said in (
    (ROOT / "configs" / "fixmatch.py", 2, "no data"),
    (bad, 2, "nothing_of_this_name"),
  ):
    # The file comes last: the keys before it wait for it.
    done = subprocess.run(
      [sys.executable, "-m", "ssljax.main", "--config.seed=1", f"--config={config}"],
      cwd=place,
      env={**os.environ, "PYTHONPATH": str(ROOT)},
      capture_output=True,
      text=True,
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_config_that_is_not_there_is_named_wherever(place):
  code, printed = run("fixmatch", place / "w", "--config=/none.py", place=place)
  assert code == 2
  assert "/none.py" in printed
  assert len(printed.splitlines()) == 1


def test_a_cache_that_cannot_be_written_is_named(place):
  (place / "file").write_text("")
  done = subprocess.run(
    [sys.executable, "-m", "ssljax.main", *runs.arguments(place, "fixmatch", "w")],
    cwd=ROOT,
    env={**runs.environment(place), "SSLJAX_CACHE": str(place / "file")},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2, done.stderr
  assert "SSLJAX_CACHE" in done.stderr.splitlines()[-1]
  assert "Traceback" not in done.stderr


@pytest.mark.parametrize("there", ["nothing", "predictions"])
def test_evaluate_makes_no_folder_in_vain_and_overwrites_nothing(place, there):
  output = place / f"out-{there}"
  data = place / "data" / "absent.jsonl"
  if there == "predictions":
    output.mkdir()
    (output / "predictions.parquet").write_text("mine")
    data = place / "data" / "test.jsonl"
  workdir = place / "claimed"
  workdir.mkdir(exist_ok=True)
  config = {"encoder": f"{place}/encoder", "max_length": 32, "resolved": {"labels": []}}
  (workdir / "config.json").write_text(json.dumps(config))
  done = runs.evaluate(place, workdir, data, f"--output={output}")
  assert done.returncode == 2, done.stderr
  assert len(done.stderr.splitlines()) == 1
  if there == "nothing":
    assert "absent.jsonl" in done.stderr
    assert not output.exists()
  else:
    assert "predictions.parquet stands there" in done.stderr
    assert (output / "predictions.parquet").read_text() == "mine"


def test_a_folder_that_may_not_be_read_is_one_line(capsys):
  def denied():
    raise PermissionError(13, "Permission denied", "/locked")

  def nameless():
    raise PermissionError(13, "Permission denied")

  for broken, ends in ((denied, SystemExit), (nameless, PermissionError)):
    with pytest.raises(ends):
      cli.guarded(broken, [""])
  assert capsys.readouterr().err == (
    "error: /locked: Permission denied; change its permissions or name another\n"
  )


def test_without_the_others_a_process_says_how_they_are_found(monkeypatch):
  monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
  monkeypatch.delenv("JAX_NUM_PROCESSES", raising=False)
  with pytest.raises(UserError, match=r"JAX_NUM_PROCESSES'; start it under SLURM"):
    main.distributed()
  monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
  monkeypatch.setenv("JAX_PROCESS_ID", "0")
  with pytest.raises(UserError, match="'two'; start it under SLURM"):
    main.distributed()


@pytest.mark.parametrize(
  ("workdir", "output", "said"),
  [
    ("encoder", "out", "not the config.json of a run"),
    ("begun", "out", "no checkpoint yet"),
    ("begun", "encoder/config.json", "name another folder by --output"),
  ],
)
def test_evaluate_names_what_it_cannot_read_or_write(place, workdir, output, said):
  (place / "begun").mkdir(exist_ok=True)
  config = {"encoder": f"{place}/encoder", "max_length": 32, "resolved": {"labels": []}}
  (place / "begun" / "config.json").write_text(json.dumps(config))
  data = place / "data" / "test.jsonl"
  done = runs.evaluate(place, place / workdir, data, f"--output={place / output}")
  assert done.returncode == 2, done.stderr
  assert said in done.stderr
  assert len(done.stderr.splitlines()) == 1
  assert not (place / workdir / "checkpoints").exists()
