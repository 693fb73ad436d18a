"""Reports of a run: each step stands once, whatever happened in between."""

import io
import json
import re
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from ssljax.training import metrics
from ssljax.training.metrics import Progress, Writer


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
  """Event files in order of time, each as a list of events."""
  found = []
  for path in sorted((workdir / "tensorboard").iterdir()):
    content, file = path.read_bytes(), []
    while content:  # TFRecord: u64 length, u32 checksum, the event, u32 checksum
      end = 12 + int.from_bytes(content[:8], "little")
      file.append(Event.FromString(content[12:end]))
      content = content[end + 4 :]
    found.append(file)
  return found


def age_events(workdir):
  """Two writers within a second would share a file."""
  (path,) = (workdir / "tensorboard").iterdir()
  path.rename(path.with_name("events.out.tfevents.1.earlier"))


def test_a_line_is_plain_json_that_opens_with_step_and_split(tmp_path):
  writer = Writer(tmp_path / "new", None, True)
  values = {"loss": jnp.float32(0.5), "rows": np.int32(3), "f1": float("nan")}
  writer.write(np.int32(4), "train", values | {"top": float("inf"), "auroc": None})
  # Flushed: a kill after this loses nothing.
  (line,) = (tmp_path / "new" / "metrics.jsonl").read_text().splitlines()
  writer.close()
  assert line.startswith('{"step": 4, "split": "train", "loss": 0.5, "rows": 3')
  assert json.loads(line)["f1"] is None
  assert json.loads(line)["top"] is None
  assert json.loads(line)["auroc"] is None


def test_what_came_after_the_restored_step_is_dropped(tmp_path):
  write(tmp_path, None, [1, 2, 3, 4])
  with open(tmp_path / "metrics.jsonl", "a") as file:
    file.write('{"step": 2, "spl')  # torn
  write(tmp_path, 2, [3, 4, 5])
  assert [row["step"] for row in lines(tmp_path)] == [1, 2, 3, 4, 5]
  assert {p.name for p in tmp_path.iterdir()} == {"metrics.jsonl", "tensorboard"}


def test_a_new_run_starts_anew(tmp_path):
  write(tmp_path, None, [1, 2])
  age_events(tmp_path)
  write(tmp_path, None, [7])
  assert [row["step"] for row in lines(tmp_path)] == [7]
  assert len(events(tmp_path)) == 1


def test_step_0_can_be_the_restored_one(tmp_path):
  write(tmp_path, None, [0, 1])
  write(tmp_path, 0, [1])
  assert [row["step"] for row in lines(tmp_path)] == [0, 1]


def test_tensorboard_holds_the_numbers_and_purges_on_resume(tmp_path):
  writer = Writer(tmp_path, None, True)
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


def test_only_the_first_process_writes(tmp_path, capsys):
  writer = Writer(tmp_path, None, False)
  writer.write(1, "train", {"loss": 1.0})
  writer.close()
  assert list(tmp_path.iterdir()) == []
  progress = Progress(10, 0, False)
  progress.update(1, {"loss": 1.0})
  progress.note("hello")
  progress.close()
  assert capsys.readouterr() == ("", "")


@pytest.fixture
def clock(monkeypatch):
  now = [1000.0]
  monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
  return now


def test_without_a_terminal_there_is_a_line_now_and_then(clock, capsys):
  progress = Progress(300, 100, True)
  for step in range(101, 121):
    progress.update(step, {"loss": 0.41} if step > 101 else {})
    clock[0] += 2
  progress.note("saved")
  progress.close()
  out, err = capsys.readouterr()
  assert out == ""
  # 15 steps of 2 s later: 184 steps are left, the first one's time does not count.
  assert err.splitlines() == [
    "step 101/300",
    "step 116/300 loss 0.41 ETA 6m08s",
    "saved",
  ]


def test_the_last_step_has_its_line(clock, capsys):
  progress = Progress(3, 0, True)
  for step in (1, 2, 3):
    progress.update(step, {"loss": 1.0})
  assert capsys.readouterr().err.splitlines()[-1].startswith("step 3/3 loss 1 ETA 0s")
  progress.close()


@pytest.mark.parametrize(
  ("seconds", "text"), [(59.6, "1m00s"), (9, "9s"), (130, "2m10s"), (7500, "2h05m")]
)
def test_durations(seconds, text):
  assert metrics._duration(seconds) == text


def test_on_a_terminal_there_is_a_bar_that_notes_do_not_break(monkeypatch):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  terminal = Terminal()
  monkeypatch.setattr(sys, "stderr", terminal)
  progress = Progress(10, 4, True)
  progress.update(5, {"loss": 0.123456})
  progress.note("resumed at step 4")
  progress.update(10, {})
  progress.close()
  shown = terminal.getvalue()
  assert re.search(r"(^|[\r\n ])resumed at step 4\n", shown)
  assert "4/10" in shown
  assert re.search(r"10/10 .*loss=0\.1235", shown)
