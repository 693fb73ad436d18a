"""Writer: metrics.jsonl and TensorBoard hold each step and split once."""

import errno
import json
import os

import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils
from tensorboardX.proto.event_pb2 import Event, SessionLog

from ssljax.training.metrics import Writer


def lines(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  assert not text or text.endswith("\n")
  return [json.loads(line) for line in text.splitlines()]


def write(workdir, restored, steps, split="train"):
  writer = Writer(workdir, restored, True)
  for step in steps:
    writer.write(step, split, {"loss": step / 2})
  writer.close()


def events(workdir):
  """The events of each event file, in order of time."""
  files = []
  for path in sorted((workdir / "tensorboard").iterdir()):
    content, file_events = path.read_bytes(), []
    while content:  # TFRecord: u64 length, u32 checksum, the event, u32 checksum
      end = 12 + int.from_bytes(content[:8], "little")
      file_events.append(Event.FromString(content[12:end]))
      content = content[end + 4 :]
    files.append(file_events)
  return files


def age_events(workdir):
  """Renames the event file, since two writers within a second would share it."""
  (path,) = (workdir / "tensorboard").iterdir()
  path.rename(path.with_name("events.out.tfevents.1.earlier"))


def test_a_line_is_json_that_starts_with_step_and_split(tmp_path):
  writer = Writer(tmp_path / "new", 0, True)
  values = {"loss": jnp.float32(0.5), "rows": np.int32(3), "f1": float("nan")}
  writer.write(np.int32(4), "train", values | {"top": float("inf"), "auroc": None})
  # The line is flushed: a kill after this loses nothing.
  (line,) = (tmp_path / "new" / "metrics.jsonl").read_text().splitlines()
  writer.close()
  assert line.startswith('{"step": 4, "split": "train", "loss": 0.5, "rows": 3')
  assert json.loads(line)["f1"] is None
  assert json.loads(line)["top"] is None
  assert json.loads(line)["auroc"] is None


def test_lines_after_the_restored_step_are_dropped(tmp_path):
  write(tmp_path, 0, [1, 2, 3, 4])
  with open(tmp_path / "metrics.jsonl", "a") as file:
    file.write('{"step": 2, "spl')  # cut off by a kill
  write(tmp_path, 2, [3, 4, 5])
  assert [row["step"] for row in lines(tmp_path)] == [1, 2, 3, 4, 5]
  assert {p.name for p in tmp_path.iterdir()} == {"metrics.jsonl", "tensorboard"}


def test_a_new_run_drops_the_metrics_of_an_old_one(tmp_path):
  write(tmp_path, 0, [1, 2])
  age_events(tmp_path)
  write(tmp_path, 0, [7])
  assert [row["step"] for row in lines(tmp_path)] == [7]
  assert len(events(tmp_path)) == 1


def test_tensorboard_holds_the_values_and_is_purged_on_resume(tmp_path):
  writer = Writer(tmp_path, 0, True)
  writer.write(3, "validation", {"f1": 0.25, "auroc": float("nan")})
  writer.close()
  ((*_, last),) = events(tmp_path)
  (value,) = last.summary.value
  assert (last.step, value.tag, value.simple_value) == (3, "validation/f1", 0.25)
  age_events(tmp_path)
  write(tmp_path, 2, [])
  starts = [
    event.step
    for file in events(tmp_path)
    for event in file
    if event.session_log.status == SessionLog.START
  ]
  assert starts == [3]


@pytest.mark.parametrize("name", ["_file", "_board"])
def test_a_full_disk_is_an_error_at_once_and_names_the_file(tmp_path, name):
  writer = Writer(tmp_path, 0, True)
  full = os.open("/dev/full", os.O_WRONLY)
  os.dup2(full, getattr(writer, name).fileno())
  os.close(full)
  with pytest.raises(OSError, match="No space left on device") as caught:
    writer.write(1, "train", {"loss": 1.0})
  assert str(caught.value.filename).startswith(str(tmp_path))
  writer.close()


def test_the_other_processes_have_the_errors_of_the_first(tmp_path, monkeypatch):
  sent = []  # by process 0
  monkeypatch.setattr(
    multihost_utils, "broadcast_one_to_all", lambda _: np.int32(sent.pop())
  )
  sent = [0, errno.ENOSPC]
  with pytest.raises(OSError, match="No space left"):
    Writer(tmp_path, 0, False)
  writer = Writer(tmp_path, 0, False)
  sent = [errno.ENOSPC]
  with pytest.raises(OSError, match="No space left") as caught:
    writer.write(1, "train", {"loss": 1.0})
  assert caught.value.filename == str(tmp_path / "metrics.jsonl")


def test_only_the_first_process_writes(tmp_path):
  writer = Writer(tmp_path, 0, False)
  writer.write(1, "train", {"loss": 1.0})
  writer.close()
  assert list(tmp_path.iterdir()) == []
