"""A user error ends in one line and exit code 2, and nothing is written."""

import json
import os

import pytest

import ssljax
from ssljax import cli, main
from ssljax.errors import UserError
from ssljax.runtime import lock
from tests import runs
from tests.runs import ROOT, run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return runs.folder(tmp_path_factory.mktemp("mistakes"))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--config.stepz=3", "--config.stepz; did you mean 'steps'?"),
    ("--config.steps=many", "steps"),
    ("--config.method.treshold=1", "threshold"),
    ("--config.wrapper.tau=0.5", "first set --config.wrapper.name"),
    ("--config.method.power=0.5", "scale, threshold"),
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
def test_a_user_error_is_one_line_and_exit_code_2(place, flag, message):
  workdir = place / "mistake"
  code, printed = run("fixmatch", workdir, flag, place=place)
  assert code == 2, printed
  errors = [line for line in printed.splitlines() if line.startswith("error: ")]
  assert len(errors) == 1
  assert message in errors[0]
  assert "Traceback" not in printed
  assert not workdir.exists()


def test_a_second_training_in_a_workdir_and_an_unreadable_workdir_are_refused(place):
  workdir = place / "taken"
  with lock.exclusive(workdir, "--workdir", inside=True):
    code, printed = run("fixmatch", workdir, place=place)
  assert code == 2, printed
  assert printed.startswith(f"error: --workdir={workdir}: process {os.getpid()} on ")
  assert len(printed.splitlines()) == 1
  code, printed = run("fixmatch", place / "lr=[1]", place=place)
  assert code == 2, printed
  assert "contains [ ]" in printed
  assert not (place / "lr=[1]").exists()


def test_a_method_that_needs_a_larger_batch_says_so(place):
  more = ("--config.batch=1", "--config.unlabelled_ratio=1", "--config.strong=self")
  code, printed = run("comatch", place / "few", *more, place=place)
  assert code == 2, printed
  assert "error: comatch needs 2 unlabelled texts per step" in printed
  assert not (place / "few").exists()


@pytest.mark.parametrize("module", ["ssljax.main", "ssljax.augment"])
def test_a_missing_config_is_an_error_that_suggests_one(module):
  more = ["--data=x"] if module == "ssljax.augment" else []
  done = runs.command(module, *more)
  assert done.returncode == 2
  assert done.stderr.startswith("error: no config: give --config=")
  assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_config_is_found_from_any_folder_and_its_errors_are_one_line(place):
  bad = place / "bad.py"
  bad.write_text("import nothing_of_this_name\n")
  for config, message in (
    (ROOT / "configs" / "fixmatch.py", "no data"),
    (bad, "nothing_of_this_name"),
  ):
    # Flags of config keys may come before --config.
    done = runs.command(
      "ssljax.main",
      "--config.seed=1",
      f"--config={config}",
      cwd=place,
      env={**os.environ, "PYTHONPATH": str(ROOT)},
      fresh=True,
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_config_that_does_not_exist_is_named():
  done = runs.command("ssljax.main", "--config=/none.py")
  assert done.returncode == 2
  assert "/none.py" in done.stderr
  assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_named(place):
  (place / "file").write_text("")
  done = runs.command(
    "ssljax.main",
    *runs.arguments(place, "fixmatch", "w"),
    env={**runs.environment(place), "SSLJAX_CACHE": str(place / "file")},
  )
  assert done.returncode == 2, done.stderr
  assert "SSLJAX_CACHE" in done.stderr.splitlines()[-1]
  assert "Traceback" not in done.stderr


def write_config(place, workdir):
  """Makes `workdir` look like a run that has no checkpoint yet."""
  config = ssljax.load_config("fixmatch", encoder=f"{place}/encoder", max_length=32)
  config = config.to_dict()
  config["resolved"] = {"labels": ["0", "1"]}
  (workdir / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("content", ["nothing", "predictions"])
def test_evaluate_leaves_no_empty_folder_and_overwrites_nothing(place, content):
  output = place / f"out-{content}"
  data = place / "data" / "absent.jsonl"
  if content == "predictions":
    output.mkdir()
    (output / "predictions.parquet").write_text("mine")
    data = place / "data" / "test.jsonl"
  workdir = place / "claimed"
  workdir.mkdir(exist_ok=True)
  write_config(place, workdir)
  done = runs.evaluate(place, workdir, data, f"--output={output}")
  assert done.returncode == 2, done.stderr
  assert len(done.stderr.splitlines()) == 1
  if content == "nothing":
    assert "absent.jsonl" in done.stderr
    assert not output.exists()
  else:
    assert "contains predictions.parquet" in done.stderr
    assert (output / "predictions.parquet").read_text() == "mine"


def test_a_permission_error_is_one_line(capsys):
  def denied():
    raise PermissionError(13, "Permission denied", "/locked")

  def nameless():
    raise PermissionError(13, "Permission denied")

  for command, error in ((denied, SystemExit), (nameless, PermissionError)):
    with pytest.raises(error):
      cli.guarded(command, [""])
  assert capsys.readouterr().err.startswith("error: /locked: Permission denied; ")


def test_an_error_of_distributed_says_which_variables_to_set(monkeypatch):
  monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
  monkeypatch.delenv("JAX_NUM_PROCESSES", raising=False)
  with pytest.raises(UserError, match=r"JAX_NUM_PROCESSES'; start it under SLURM"):
    main.join_processes()
  monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
  monkeypatch.setenv("JAX_PROCESS_ID", "0")
  with pytest.raises(UserError, match="'two'; start it under SLURM"):
    main.join_processes()


@pytest.mark.parametrize(
  ("workdir", "output", "message"),
  [
    ("encoder", "out", "not the config.json of a run"),
    ("begun", "out", "no checkpoint yet"),
    ("begun", "encoder/config.json", "name another"),
  ],
)
def test_evaluate_names_the_path_it_cannot_use(place, workdir, output, message):
  (place / "begun").mkdir(exist_ok=True)
  write_config(place, place / "begun")
  data = place / "data" / "test.jsonl"
  done = runs.evaluate(place, place / workdir, data, f"--output={place / output}")
  assert done.returncode == 2, done.stderr
  assert message in done.stderr
  assert len(done.stderr.splitlines()) == 1
  assert not (place / workdir / "checkpoints").exists()
