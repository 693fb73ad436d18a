"""A mistake of the user ends in one line and exit code 2, and writes nothing."""

import os
import subprocess
import sys

import pytest

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
    done = subprocess.run(
      [sys.executable, "-m", "ssljax.main", f"--config={config}"],
      cwd=place,
      env={**os.environ, "PYTHONPATH": str(ROOT)},
      capture_output=True,
      text=True,
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_evaluate_refuses_a_folder_of_something_else(place):
  done = runs.evaluate(place, place / "encoder")
  assert done.returncode == 2
  assert "not the config.json of a run" in done.stderr
