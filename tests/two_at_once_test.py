"""Two processes that write to the same place: one writes, the other one is refused."""

import json

import pytest

from tests import runs
from tests.scored import make_rows, read_rows, write_file

pytestmark = pytest.mark.faults


def end(*processes):
  """Waits for processes; returns (exit code, output), sorted."""
  printed = ["".join(process.communicate()) for process in processes]
  codes = [process.returncode for process in processes]
  return sorted(zip(codes, printed, strict=True))


def test_two_predictions_to_one_output(tmp_path, model):
  source = write_file(tmp_path / "in.jsonl", make_rows(400))

  def start(output):
    return runs.Command(
      "tests.inference.chunked_predict",
      *(f"--model={model}", f"--input={source}", f"--output={tmp_path / output}"),
      env=runs.environment(tmp_path),
    )

  (first, printed), (second, error) = end(start("out.jsonl"), start("out.jsonl"))
  assert (first, second) == (0, 2), printed + error
  assert "400 rows scored" in printed
  (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
  assert line.startswith(f"error: --output={tmp_path}/out.jsonl")
  assert "wait until it ends" in line or "exists" in line
  assert "Traceback" not in printed + error
  assert [path.name for path in tmp_path.iterdir() if path.name[0] == "."] == []

  ((code, printed),) = end(start("alone.jsonl"))
  assert code == 0, printed
  rows, alone = (read_rows(tmp_path / name) for name in ("out.jsonl", "alone.jsonl"))
  for row, expected in zip(rows, alone, strict=True):
    assert row.pop("score") == pytest.approx(expected.pop("score"), abs=1e-6)
    assert row == expected


def test_two_trainings_in_one_workdir(tmp_path):
  place, workdir = runs.folder(tmp_path), tmp_path / "run"
  start = lambda: runs.Command(
    "ssljax.main",
    *runs.arguments(place, "supervised", workdir),
    env=runs.environment(place),
  )
  (first, printed), (second, refused) = end(start(), start())
  assert first == 0, printed + refused
  assert "Traceback" not in printed + refused
  if second:
    assert second == 2
    (line,) = refused.splitlines()
    assert line.startswith(f"error: --workdir={workdir}: process ")
    assert "wait until it ends" in line
  else:  # it was slow to start
    assert any("already holds this run, finished" in p for p in (printed, refused))
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  written = [(values["step"], values["split"]) for values in map(json.loads, lines)]
  assert sorted(written) == sorted(
    [(step, "train") for step in (5, 10, 15, 20, 24)]
    + [(step, "validation") for step in (8, 16, 24)]
    + [(24, "test")]
  )
  assert not [path for path in workdir.iterdir() if path.name.startswith(".")]
