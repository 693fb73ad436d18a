"""The lines of results/NAME.jsonl: one for each finished run, whatever happens."""

import json
import threading
import time

import pytest

from ssljax.errors import UserError
from ssljax.runtime import lock
from ssljax.sweeps import results
from tests.evals.run_folders import change_config, change_result
from tests.sweeps.files import expand, finish


@pytest.fixture
def sweep(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  sweep = expand(tmp_path, *"abcdef")
  for run in sweep:
    finish(run)
  return sweep


@pytest.fixture
def path(tmp_path):
  return tmp_path / "results" / "sweep.jsonl"


def test_a_line_says_what_was_run_and_what_it_gave(sweep, path):
  run = sweep[1]
  assert results.append(path, [run]) == 1
  (line,) = results.read(path)
  result = json.loads((run.workdir / "result.json").read_text())
  for key in ("test", "validation", "thresholds", "seconds", "device", "params_sha256"):
    assert line[key] == result[key]
  assert line["test"]["f1_interval"] == result["test"]["f1_interval"]
  assert (line["run"], line["config"], line["method"]) == (
    "b",
    "supervised",
    "supervised",
  )
  assert line["changes"] == {"data": "my data's", "encoder": "e", "steps": 4, "seed": 1}
  assert line["data"] == "my data's"
  assert line["views"] == {"weak": ["self"], "medium": ["words"], "strong": ["words"]}
  assert line["steps_per_second"] is None  # the run has no times


def test_steps_per_second_are_the_median_of_the_train_lines(sweep, path):
  lines = [{"step": t, "split": "train", "step_seconds": t / 10} for t in (1, 2, 40)]
  lines += [{"step": 50, "split": "train"}, {"step": 50, "split": "validation"}]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (sweep[0].workdir / "metrics.jsonl").write_text(text)
  results.append(path, sweep[:1])
  assert results.read(path)[0]["steps_per_second"] == pytest.approx(5)


def test_each_finished_run_has_one_line(sweep, path):
  assert results.append(path, sweep[:2]) == 2
  first = path.read_bytes()
  assert results.append(path, sweep[:2]) == 0
  assert path.read_bytes() == first
  # A kill after the end of a run and before its line: the next call appends it.
  assert results.append(path, sweep[:3]) == 1
  assert path.read_bytes().startswith(first)
  assert [line["run"] for line in results.read(path)] == ["a", "b", "c"]
  # A run that was trained again has another result.
  change_result(sweep[0].workdir, seconds=1.5)
  assert results.append(path, sweep[:3]) == 1
  assert [line["run"] for line in results.read(path)] == ["a", "b", "c", "a"]
  assert sorted(p.name for p in path.parent.iterdir()) == ["sweep.jsonl"]


def test_several_may_append_at_once(sweep, path):
  threads = [
    threading.Thread(target=results.append, args=(path, runs))
    for runs in (sweep[:3], sweep[2:4], sweep[3:], sweep)
  ]
  with lock.exclusive(path, "--x"):
    for thread in threads:
      thread.start()
    time.sleep(0.3)
    assert not path.exists()  # they wait for each other
  for thread in threads:
    thread.join()
  assert sorted(line["run"] for line in results.read(path)) == list("abcdef")


def test_a_file_that_a_person_has_changed(sweep, path):
  results.append(path, sweep[:1])
  path.write_text(path.read_text().rstrip("\n"))  # as some editors leave it
  results.append(path, sweep[:2])
  assert len(results.read(path)) == 2
  for damage in ("<<<<<<< HEAD\n", '{"run": "a"}\n', "[1]\n", "\n"):
    path.write_text(damage)
    with pytest.raises(UserError, match=r"sweep.jsonl, line 1: not a line of a sweep"):
      results.append(path, sweep)
    assert path.read_text() == damage


def test_the_digest_of_a_config_ignores_what_changes_no_result(sweep):
  def digest(**changes):
    change_config(sweep[0].workdir, **changes)
    return results.describe(sweep[0])["config_sha256"]

  resolved = {"labels": ["a", "b"], "row_lengths": [64], "rows_sha256": "0"}
  first = digest(resolved=resolved)
  assert first != results.describe(sweep[1])["config_sha256"]  # another seed
  assert digest(data="/moved", encoder="/moved", verify=True) == first
  assert digest(resolved={**resolved, "row_lengths": [128]}) == first
  assert digest(resolved={**resolved, "data_sha256": "1"}) == first
  assert digest(resolved={**resolved, "rows_sha256": "1"}) != first
  assert digest(resolved=resolved, learning_rate=0.5) != first
