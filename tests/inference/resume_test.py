"""What a kill leaves `ssljax.predict` to go on from, and what it holds in memory."""

import os
import shutil
import subprocess
import sys
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax import predict
from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.inference.rows.resume import Parts
from tests import runs
from tests.runs import ROOT
from tests.scored import hidden, rows, texts, without, write


def states(folder, kept, monkeypatch, work):
  """Copies of `folder` as a kill would leave it, as files are written and named."""
  found = []

  def seen(whole):
    def changed(*given, **more):
      for call in (lambda: None, lambda: whole(*given, **more)):
        call()
        found.append(shutil.copytree(folder, kept / str(len(found))))

    return changed

  with monkeypatch.context() as patch:
    for place, name in (
      *((os, "replace"), (shutil, "rmtree"), (shutil, "copyfileobj")),
      (pq.ParquetWriter, "write_table"),
    ):
      patch.setattr(place, name, seen(getattr(place, name)))
    work()
  return found


@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet"])
def test_from_whatever_a_kill_leaves_the_same_command_comes_to_the_same_end(
  classifier, tmp_path, monkeypatch, source, target
):
  monkeypatch.setattr(predict, "PIECE", 16)
  source = write(tmp_path / source, texts())
  (tmp_path / "work").mkdir()
  (tmp_path / "kept").mkdir()
  ends = []
  go_on = lambda folder: predict.predict(classifier, source, str(folder / target))
  left = states(
    *(tmp_path / "work", tmp_path / "kept", monkeypatch),
    lambda: ends.append(go_on(tmp_path / "work")),
  )
  assert len(left) > 20
  wanted, repeated = rows(tmp_path / "work" / target), []
  score = predict.Scorer.__call__
  monkeypatch.setattr(
    predict.Scorer,
    "__call__",
    lambda self, some: repeated.append(len(some)) or score(self, some),
  )
  for state in left:
    if (state / target).exists():  # whole, or not there
      assert rows(state / target) == wanted
      continue
    assert go_on(state) == ends[0]
    assert rows(state / target) == wanted
    assert hidden(state) == []
  assert sum(repeated) < 0.7 * 50 * len(left)  # what is done is not done again


def interrupted(patch, *given):
  """Leaves all parts of an output, not joined."""
  patch.setattr(Parts, "join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
  with pytest.raises(KeyboardInterrupt):
    predict.predict(*given)


@pytest.mark.parametrize("changed", ["input", "model", "damage"])
def test_parts_of_another_input_or_model_are_not_used(
  classifier, tmp_path, monkeypatch, changed
):
  monkeypatch.setattr(predict, "PIECE", 16)
  source, output = write(tmp_path / "in.jsonl", texts()), tmp_path / "out.jsonl"
  with monkeypatch.context() as patch:
    interrupted(patch, classifier, source, str(output))
  assert hidden(tmp_path) == [".out.jsonl.parts"]
  if changed == "input":
    source = write(tmp_path / "in.jsonl", texts(60))
  elif changed == "model":
    monkeypatch.setattr(classifier, "identity", "another")
  elif changed == "damage":
    (tmp_path / ".out.jsonl.parts" / "progress.json").write_text("{")
  count = []
  logits = classifier.logits
  monkeypatch.setattr(classifier, "logits", lambda t: count.append(len(t)) or logits(t))
  # Parts that are of no use forbid no other threshold.
  said = predict.predict(classifier, source, str(output), "0.9")
  total = 60 if changed == "input" else 50
  assert sum(count) == total - 2
  assert len(rows(output)) == total
  assert said.startswith(f"{total} rows")


@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize(
  ("first", "other", "value"),
  [("", "fpr_1%", "0.5"), ("fpr_1%", "0.9", "0.4"), ("0.123456789", "", "0.123456789")],
)
def test_another_threshold_loses_no_scores(
  classifier, tmp_path, monkeypatch, target, first, other, value
):
  monkeypatch.setattr(predict, "PIECE", 16)
  source, output = write(tmp_path / "in.jsonl", texts()), tmp_path / target
  wanted = tmp_path / f"straight-{target}"
  said = predict.predict(classifier, source, str(wanted), first)
  with monkeypatch.context() as patch:
    interrupted(patch, classifier, source, str(output), first)
  folder = tmp_path / f".{target}.parts"
  before = {path.name: path.read_bytes() for path in folder.iterdir()}
  assert len(before) == 5
  monkeypatch.setattr(classifier, "logits", None)  # nothing is scored any more
  asked = classifier.threshold(other or 0.5)
  with pytest.raises(UserError) as caught:
    predict.predict(classifier, source, str(output), other)
  message = str(caught.value)
  assert message.startswith(f"--threshold={asked}: {folder} holds 50 rows flagged at")
  assert f"give --threshold={value} to go on" in message
  assert "remove the folder to begin anew" in message
  assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
  assert predict.predict(classifier, source, str(output), value) == said
  assert output.read_bytes() == wanted.read_bytes()
  assert hidden(tmp_path) == []


def test_a_folder_without_a_part_forbids_no_threshold(
  classifier, tmp_path, monkeypatch
):
  source, output = write(tmp_path / "in.jsonl", texts()), tmp_path / "out.jsonl"
  with monkeypatch.context() as patch:
    patch.setattr(Parts, "add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
      predict.predict(classifier, source, str(output))
  assert hidden(tmp_path) == [".out.jsonl.parts"]
  said = predict.predict(classifier, source, str(output), "0.9")
  assert "flagged at 0.9" in said


KILLED = """
import os, sys
from ssljax import cli, predict
from ssljax.inference.rows.resume import Parts
predict.PIECE = 8
whole, calls = Parts.add, []
def add(*given):
  whole(*given)
  calls.append(given)
  if len(calls) == 3:
    os.kill(os.getpid(), 9)
Parts.add = add
sys.argv[0] = "predict"
predict.define_flags()
cli.run(predict.main)
"""


def test_a_killed_command_goes_on(model, classifier, tmp_path, monkeypatch):
  source, output = write(tmp_path / "in.jsonl", texts()), tmp_path / "out.parquet"
  done = subprocess.run(
    [
      *(sys.executable, "-c", KILLED, f"--model={model}"),
      *(f"--input={source}", f"--output={output}"),
    ],
    cwd=ROOT,
    env=runs.environment(tmp_path),
  )
  assert done.returncode == -9
  assert not output.exists()
  counts = []
  add = Parts.add
  monkeypatch.setattr(Parts, "add", lambda *a: counts.append(a[-1]["rows"]) or add(*a))
  monkeypatch.setattr(predict, "PIECE", 16)  # pieces need not be as they were
  said = predict.predict(classifier, source, str(output))
  assert counts == [40, 50]
  straight = tmp_path / "straight.parquet"
  assert predict.predict(classifier, source, str(straight)) == said
  for a, b in zip(rows(output), rows(straight), strict=True):
    assert a.pop("score") == pytest.approx(b.pop("score"), abs=1e-6)
    assert a == b


def test_a_full_disk_keeps_what_is_done(classifier, tmp_path, monkeypatch):
  monkeypatch.setattr(predict, "PIECE", 16)
  source, output = write(tmp_path / "in.jsonl", texts()), tmp_path / "out.jsonl"
  with monkeypatch.context() as patch:
    full = OSError(28, "No space left on device")
    patch.setattr(Parts, "join", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(UserError, match=r"No space.*kept in .*\.out\.jsonl\.parts"):
      predict.predict(classifier, source, str(output))
  monkeypatch.setattr(classifier, "logits", None)  # nothing is left to score
  assert predict.predict(classifier, source, str(output)).startswith("50 rows")


class Row(dict):
  """A dict that can be watched."""

  __hash__ = object.__hash__


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet"])
def test_no_more_is_held_than_a_piece_that_is_scored_and_one_that_is_read(
  classifier, tmp_path, monkeypatch, source
):
  piece, count = 16, 400
  monkeypatch.setattr(predict, "PIECE", piece)
  path = write(tmp_path / source, texts(count))
  read, held, most, ahead = [0], [0], [0], []

  def seen(thing, many):
    read[0] += many
    held[0] += many
    most[0] = max(most[0], held[0])
    weakref.finalize(thing, lambda: held.__setitem__(0, held[0] - many))
    return thing

  lines, batches, add = files.rows, pq.ParquetFile.iter_batches, Parts.add
  monkeypatch.setattr(
    files, "rows", lambda path: ((n, seen(Row(row), 1)) for n, row in lines(path))
  )
  monkeypatch.setattr(
    pq.ParquetFile,
    "iter_batches",
    lambda *a, **k: (seen(batch, len(batch)) for batch in batches(*a, **k)),
  )

  def adds(self, write, counts):
    add(self, write, counts)
    ahead.append(read[0] - count - counts["rows"])  # all were read by the check

  monkeypatch.setattr(Parts, "add", adds)
  predict.predict(classifier, path, str(tmp_path / "out.jsonl"))
  assert read[0] == 2 * count
  assert len(ahead) == count / piece
  assert max(ahead) <= piece
  assert piece <= most[0] <= 3 * piece


def test_of_a_parquet_file_a_piece_is_in_memory_and_not_all(tmp_path):
  words = np.random.default_rng(0).integers(97, 122, (4000, 1000), np.uint8)
  table = pa.table({"text": [bytes(row).decode() for row in words]})
  pq.write_table(table, tmp_path / "in.parquet", row_group_size=50, compression="none")
  del table
  before, most = pa.total_allocated_bytes(), 0
  for batch in files.parquet(tmp_path / "in.parquet").iter_batches(50):
    assert len(batch) == 50
    most = max(most, pa.total_allocated_bytes() - before)
  assert most < 1_500_000  # of 4,000,000


def test_of_a_file_that_grows_the_rows_that_were_checked_are_scored(
  classifier, tmp_path, monkeypatch
):
  source, output = write(tmp_path / "in.jsonl", texts()), tmp_path / "out.jsonl"
  check = predict.check

  def grown(*given):
    found = check(*given)
    with open(source, "a") as file:
      file.write('{"text": ')
    return found

  monkeypatch.setattr(predict, "check", grown)
  assert predict.predict(classifier, source, str(output)).startswith("50 rows")
  assert without(rows(output)) == texts()
