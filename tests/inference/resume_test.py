"""How `ssljax.predict` continues after a kill, and how much memory it holds."""

import importlib
import os
import shutil
import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.inference.rows.resume import OutputParts
from tests import runs
from tests.scored import hidden_files, make_rows, read_rows, without_scores, write_file

predict = importlib.import_module("ssljax.predict")  # ssljax.predict is a function


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
  monkeypatch.setattr(predict, "CHUNK_SIZE", 16)


@pytest.fixture
def interrupt(classifier):
  """predict() stopped before an OutputParts method runs, as by Ctrl-C."""

  def run(method, *arguments, error=KeyboardInterrupt):
    def fail(*_):
      raise error

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(OutputParts, method, fail)
      predict.predict(classifier, *arguments)

  return run


def snapshots(folder, kept, work):
  """Copies `folder` before and after each write and rename that `work` does."""
  copies = []

  def copying(function):
    def wrapper(*args, **kwargs):
      for call in (lambda: None, lambda: function(*args, **kwargs)):
        call()
        copies.append(shutil.copytree(folder, kept / str(len(copies))))

    return wrapper

  with pytest.MonkeyPatch.context() as patch:
    for owner, name in (
      *((os, "replace"), (shutil, "rmtree"), (shutil, "copyfileobj")),
      (pq.ParquetWriter, "write_table"),
    ):
      patch.setattr(owner, name, copying(getattr(owner, name)))
    work()
  return copies


@pytest.mark.slow
@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet"])
def test_a_kill_at_any_moment_leads_to_the_same_output(
  classifier, tmp_path, monkeypatch, source, target
):
  source = write_file(tmp_path / source, make_rows())
  (tmp_path / "work").mkdir()
  (tmp_path / "kept").mkdir()
  summaries = []
  run = lambda folder: predict.predict(classifier, source, str(folder / target))
  killed = snapshots(
    *(tmp_path / "work", tmp_path / "kept"),
    lambda: summaries.append(run(tmp_path / "work")),
  )
  assert len(killed) > 20
  expected, scored = read_rows(tmp_path / "work" / target), []
  score = predict.Scorer.__call__
  monkeypatch.setattr(
    predict.Scorer,
    "__call__",
    lambda self, texts: scored.append(len(texts)) or score(self, texts),
  )
  for folder in killed:
    if (folder / target).exists():  # complete as soon as it has its name
      assert read_rows(folder / target) == expected
      continue
    assert run(folder) == summaries[0]
    assert read_rows(folder / target) == expected
    assert hidden_files(folder) == []
  assert sum(scored) < 0.7 * 50 * len(killed)  # finished parts are not scored again


@pytest.mark.parametrize("changed", ["input", "model", "damage", "part", "count"])
def test_parts_of_another_input_or_model_are_not_used(
  classifier, interrupt, tmp_path, monkeypatch, changed
):
  source, output = write_file(tmp_path / "in.jsonl", make_rows()), "out.jsonl"
  with pytest.raises(KeyboardInterrupt):
    interrupt("join", source, str(tmp_path / output))
  assert hidden_files(tmp_path) == [".out.jsonl.parts"]
  if changed == "input":
    source = write_file(tmp_path / "in.jsonl", make_rows(60))
  elif changed == "model":
    monkeypatch.setattr(classifier, "identity", "another")
  elif changed == "damage":
    (tmp_path / ".out.jsonl.parts" / "progress.json").write_text("{")
  elif changed == "part":
    part = tmp_path / ".out.jsonl.parts" / "00000001"
    part.write_text(part.read_text().replace("calm", "harm", 1))
  elif changed == "count":
    progress = tmp_path / ".out.jsonl.parts" / "progress.json"
    progress.write_text(progress.read_text().replace('"parts": 4', '"parts": 2'))
  scored, logits = [], classifier.logits
  monkeypatch.setattr(
    classifier,
    "logits",
    lambda texts, *names: scored.append(len(texts)) or logits(texts, *names),
  )
  # Parts that can't be used don't rule out another threshold either.
  summary = predict.predict(classifier, source, str(tmp_path / output), "0.9")
  total = 60 if changed == "input" else 50
  assert sum(scored) == total - 2
  assert len(read_rows(tmp_path / output)) == total
  assert summary.startswith(f"{total} rows")


@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize(
  ("first", "other", "value"),
  [("", "fpr=1%", "0.5"), ("fpr=1%", "0.9", "0.4"), ("0.123456789", "", "0.123456789")],
)
def test_another_threshold_is_refused_and_deletes_no_scores(
  classifier, interrupt, tmp_path, monkeypatch, target, first, other, value
):
  source, output = write_file(tmp_path / "in.jsonl", make_rows()), tmp_path / target
  uninterrupted = tmp_path / f"uninterrupted-{target}"
  summary = predict.predict(classifier, source, str(uninterrupted), first)
  with pytest.raises(KeyboardInterrupt):
    interrupt("join", source, str(output), first)
  folder = tmp_path / f".{target}.parts"
  before = {path.name: path.read_bytes() for path in folder.iterdir()}
  assert len(before) == 5
  monkeypatch.setattr(classifier, "logits", None)  # nothing is scored from here on
  asked = classifier.threshold(other or 0.5)
  with pytest.raises(UserError) as caught:
    predict.predict(classifier, source, str(output), other)
  message = str(caught.value)
  assert message.startswith(
    f"--threshold={asked}: {folder} holds 50 rows scored with threshold"
  )
  assert f"continue with --threshold={value} " in message
  assert "remove the folder to start again" in message
  assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
  assert predict.predict(classifier, source, str(output), value) == summary
  assert output.read_bytes() == uninterrupted.read_bytes()
  assert hidden_files(tmp_path) == []


@pytest.mark.parametrize(
  ("owner", "name"), [(Path, "rename"), (shutil, "rmtree")], ids=["rename", "rmtree"]
)
def test_parts_that_outlive_their_output_are_removed(
  classifier, tmp_path, monkeypatch, owner, name
):
  source = write_file(tmp_path / "in.jsonl", make_rows())
  output, call = tmp_path / "out.jsonl", getattr(owner, name)

  def die(*arguments, **options):  # as soon as the output is complete
    if output.exists():
      raise KeyboardInterrupt
    return call(*arguments, **options)

  monkeypatch.setattr(owner, name, die)
  with pytest.raises(KeyboardInterrupt):
    predict.predict(classifier, source, str(output))
  monkeypatch.setattr(owner, name, call)
  content = output.read_bytes()
  assert len(hidden_files(tmp_path)) == 1
  with pytest.raises(UserError, match=r"out.jsonl exists"):
    predict.predict(classifier, source, str(output))
  assert hidden_files(tmp_path) == []
  assert output.read_bytes() == content


def test_unfinished_parts_are_kept_beside_a_file_of_the_user(
  classifier, interrupt, tmp_path
):
  source = write_file(tmp_path / "in.jsonl", make_rows())
  output = tmp_path / "out.jsonl"
  with pytest.raises(KeyboardInterrupt):
    interrupt("join", source, str(output))
  output.write_text("mine")
  with pytest.raises(UserError, match=r"out.jsonl exists"):
    predict.predict(classifier, source, str(output))
  assert hidden_files(tmp_path) == [".out.jsonl.parts"]


def test_a_folder_without_a_part_accepts_any_threshold(classifier, interrupt, tmp_path):
  source, output = write_file(tmp_path / "in.jsonl", make_rows()), "out.jsonl"
  with pytest.raises(KeyboardInterrupt):
    interrupt("add", source, str(tmp_path / output))
  assert hidden_files(tmp_path) == [".out.jsonl.parts"]
  summary = predict.predict(classifier, source, str(tmp_path / output), "0.9")
  assert "flagged at 0.9" in summary


@pytest.mark.slow
def test_a_killed_command_continues(model, classifier, tmp_path, monkeypatch):
  source = write_file(tmp_path / "in.jsonl", make_rows())
  output = tmp_path / "out.parquet"
  process = runs.command(
    "tests.inference.killed_predict",
    *(f"--model={model}", f"--input={source}", f"--output={output}"),
    env=runs.environment(tmp_path),
  )
  assert process.returncode == -9
  assert not output.exists()
  counts, add = [], OutputParts.add  # the chunk size may differ from the killed one's
  monkeypatch.setattr(
    OutputParts, "add", lambda *a: counts.append(a[-1]["rows"]) or add(*a)
  )
  summary = predict.predict(classifier, source, str(output))
  assert counts == [32, 48, 50]
  uninterrupted = tmp_path / "uninterrupted.parquet"
  assert predict.predict(classifier, source, str(uninterrupted)) == summary
  for a, b in zip(read_rows(output), read_rows(uninterrupted), strict=True):
    assert a.pop("score") == pytest.approx(b.pop("score"), abs=1e-6)
    assert a == b


@pytest.mark.parametrize("kills", [1, 2])
def test_parts_of_version_0_1_are_continued(classifier, interrupt, tmp_path, kills):
  """The folder's layout must stay: a kill may be followed by an upgrade."""
  source = write_file(tmp_path / "in.jsonl", make_rows())
  folder = tmp_path / ".out.jsonl.parts"
  folder.mkdir()
  (folder / "00000000").write_text('{"text": "first"}\n')
  stat = os.stat(source)
  counts = '{"rows": 49, "empty": 2, "truncated": 1, "flagged": 7}'
  (folder / "progress.json").write_text(
    f'{{"identity": {{"input": ["{source}", {stat.st_size}, {stat.st_mtime_ns}], '
    f'"model": "{classifier.identity}"}}, "threshold": 0.5, "parts": 1, '
    f'"counts": {counts}}}'
  )
  for _ in range(kills - 1):
    with pytest.raises(KeyboardInterrupt):
      interrupt("join", source, str(tmp_path / "out.jsonl"))
  summary = predict.predict(classifier, source, str(tmp_path / "out.jsonl"))
  assert summary.startswith("50 rows scored")
  rows = read_rows(tmp_path / "out.jsonl")
  assert [row["text"] for row in rows] == ["first", make_rows()[-1]["text"]]


@pytest.mark.parametrize("piped", [False, True])
def test_a_full_disk_keeps_finished_parts(
  classifier, interrupt, tmp_path, monkeypatch, stdin, piped
):
  source, output = write_file(tmp_path / "in.jsonl", make_rows()), "out.jsonl"
  rows = (tmp_path / "in.jsonl").read_bytes()
  source = "-" if piped else source
  full = OSError(28, "No space left on device")
  stdin(rows)
  with pytest.raises(UserError, match=r"No space.*kept in .*\.out\.jsonl\.parts"):
    interrupt("join", source, str(tmp_path / output), error=full)
  monkeypatch.setattr(classifier, "logits", None)  # nothing is left to score
  stdin(rows)
  summary = predict.predict(classifier, source, str(tmp_path / output))
  assert summary.startswith("50 rows")


class Row(dict):
  """A dict that weak references can point to."""

  __hash__ = object.__hash__


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet"])
def test_memory_holds_the_scored_chunk_and_the_next_one(
  classifier, tmp_path, monkeypatch, source
):
  count = 400
  path = write_file(tmp_path / source, make_rows(count))
  read, held, most, ahead = 0, 0, 0, []

  def watch(value, rows):
    nonlocal read, held, most
    read += rows
    held += rows
    most = max(most, held)
    weakref.finalize(value, release, rows)
    return value

  def release(rows):
    nonlocal held
    held -= rows

  lines, batches, add = files.read_rows, pq.ParquetFile.iter_batches, OutputParts.add
  monkeypatch.setattr(
    files, "read_rows", lambda path: ((n, watch(Row(row), 1)) for n, row in lines(path))
  )
  monkeypatch.setattr(
    pq.ParquetFile,
    "iter_batches",
    lambda *a, **k: (watch(batch, len(batch)) for batch in batches(*a, **k)),
  )

  def record_lead(self, write, counts):
    add(self, write, counts)
    ahead.append(read - count - counts["rows"])  # the check has read all rows once

  monkeypatch.setattr(OutputParts, "add", record_lead)
  predict.predict(classifier, path, str(tmp_path / "out.jsonl"))
  assert read == 2 * count
  assert len(ahead) == count / predict.CHUNK_SIZE
  assert max(ahead) <= predict.CHUNK_SIZE
  assert predict.CHUNK_SIZE <= most <= 3 * predict.CHUNK_SIZE


def test_a_parquet_file_is_not_held_in_memory(tmp_path):
  words = np.random.default_rng(0).integers(97, 122, (4000, 1000), np.uint8)
  table = pa.table({"text": [bytes(row).decode() for row in words]})
  pq.write_table(table, tmp_path / "in.parquet", row_group_size=50, compression="none")
  del table
  before, most = pa.total_allocated_bytes(), 0
  path = tmp_path / "in.parquet"
  for batch in files.read_batches(path, files.open_parquet(path), 50):
    assert len(batch) == 50
    most = max(most, pa.total_allocated_bytes() - before)
  assert most < 1_500_000  # of 4,000,000


def test_rows_added_after_the_check_are_ignored(classifier, tmp_path, monkeypatch):
  source = write_file(tmp_path / "in.jsonl", make_rows())
  check_input = predict.check_input

  def append_after_check(*arguments):
    task = check_input(*arguments)
    with open(source, "a") as file:
      file.write('{"text": ')
    return task

  monkeypatch.setattr(predict, "check_input", append_after_check)
  summary = predict.predict(classifier, source, str(tmp_path / "out.jsonl"))
  assert summary.startswith("50 rows")
  assert without_scores(read_rows(tmp_path / "out.jsonl")) == make_rows()
