"""A run that another process has finished is no failure of this sweep."""

from launch import sweep
from ssljax.sweeps import parallel, results
from tests.sweeps.files import expand, finish


def test_runs_that_another_process_has_finished_are_no_failures(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  planned = expand(tmp_path, "a", "b", "c")
  finish(planned[0])

  def train(missing, *_):
    if missing:
      finish(planned[1])
    whys = {"b": "it's locked", "c": "another mistake"}
    return parallel.Ended(0, {run.name: whys[run.name] for run in missing})

  compared = []
  monkeypatch.setattr(parallel, "train", train)
  monkeypatch.setattr(sweep, "compare", lambda _, runs, name: compared.extend(runs))
  assert sweep.train(planned, planned, "sweep", 1) == 1
  assert [run.name for run in compared] == ["a", "b"]
  errors = capsys.readouterr().err
  assert "failed: c: another mistake" in errors
  assert "failed: b" not in errors
  names = [line["run"] for line in results.read(tmp_path / "results/sweep.jsonl")]
  assert names == ["a", "b"]
  finish(planned[2])
  assert sweep.train(planned, planned[2:], "sweep", 1) == 0
