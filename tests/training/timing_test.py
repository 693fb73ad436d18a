"""StepTimer, on a simulated device and clock."""

import time
from concurrent.futures import Future

import jax.numpy as jnp
import pytest

from ssljax.training import timing
from ssljax.training.timing import StepTimer

STEP, HOST = 0.05, 0.001  # seconds of a step on the device, and on the host


class Device:
  """Runs steps one after another, beside the host; waiting for one moves the clock."""

  def __init__(self, monkeypatch):
    self.now = self.free = 0.0
    self.ends = {}
    monkeypatch.setattr(time, "perf_counter", lambda: self.now)
    monkeypatch.setattr(timing, "when_ready", self.when_ready)

  def send(self, step, seconds):
    self.now += HOST
    self.free = max(self.now, self.free) + seconds
    self.ends[step] = self.free
    return {"loss": float(step)}

  def when_ready(self, metrics):
    return Waiting(self, self.ends[int(metrics["loss"])])


class Waiting(Future):
  """The end of a step; asking for it waits."""

  def __init__(self, device, end):
    super().__init__()
    self.device, self.end = device, end

  def result(self, timeout=None):
    self.device.now = max(self.device.now, self.end)
    return self.end


def run(device, steps, log_every, compile_steps=(0,), evaluate_every=0, batch=0.0):
  """Runs a loop like that of train.py; returns (logged lines, timer).

  Args:
    batch: seconds in which the loop waits for each batch.
  """
  timer, lines = StepTimer(peak=1000.0), []
  for t in range(steps):
    device.now += batch
    fresh = t in compile_steps
    if fresh:
      timer.pause()
    values = device.send(t, 9.0 if fresh else STEP)
    counts = {"step": t + 1, "texts": 4, "tokens": 40, "row_tokens": 50, "flops": 8.0}
    timer.add(values, counts)
    if fresh:
      timer.pause()
      timer.resume()
    if (t + 1) % log_every == 0:
      lines.append(timer.line())
    if evaluate_every and (t + 1) % evaluate_every == 0:
      timer.pause()
      device.now += 7.0
      timer.resume()
  return lines, timer


@pytest.mark.parametrize("log_every", [1, 2, 3, 10])
@pytest.mark.parametrize("evaluate_every", [0, 4])
def test_step_time_does_not_depend_on_how_often_lines_are_logged(
  monkeypatch, log_every, evaluate_every
):
  lines, timer = run(Device(monkeypatch), 30, log_every, (0, 15), evaluate_every)
  assert timer.first_seconds == pytest.approx(STEP, rel=0.1)
  for number, line in enumerate(lines):
    if log_every == 1 and number in (0, 15):  # the steps that compile
      assert "step_seconds" not in line
      continue
    assert line["step_seconds"] == pytest.approx(STEP, rel=0.1)
    assert line["examples_per_second"] == pytest.approx(4 / STEP, rel=0.1)
    assert line["tokens_per_second"] == pytest.approx(40 / STEP, rel=0.1)
    assert line["real_token_share"] == pytest.approx(0.8)
    assert line["mfu"] == pytest.approx(8 / STEP / 1000, rel=0.1)
    assert "flops" not in line


def test_a_step_is_dispatched_before_the_previous_one_has_ended(monkeypatch):
  device = Device(monkeypatch)
  timer = StepTimer()
  for t in range(5):
    timer.add(device.send(t, STEP), {"step": t + 1})
    assert device.now <= device.ends.get(t - 1, 0) + 2 * HOST


def test_a_restored_timer_logs_the_line_of_an_uninterrupted_one(monkeypatch):
  device = Device(monkeypatch)
  counts = {"texts": 4, "tokens": 40, "row_tokens": 50}
  uninterrupted, first = StepTimer(), StepTimer()
  for t in range(3):
    values = device.send(t, STEP)
    uninterrupted.add(values, counts)
    first.add(values, counts)
  second = StepTimer(first.fetch())
  last = device.send(3, STEP)
  uninterrupted.add(last, counts)
  second.add(last, counts)
  assert uninterrupted.line() == second.line()


def test_pseudo_label_accuracy_weights_each_text_equally():
  timer = StepTimer()
  for right, known in ((1.0, 1.0), (1.0, 4.0), (0.0, 0.0)):
    counts = {"texts": 4, "tokens": 40, "row_tokens": 50}
    metrics = {"pseudo_labels_right": right, "pseudo_labels_known": known}
    timer.add(metrics, counts)
  assert timer.line()["pseudo_label_accuracy"] == pytest.approx(2 / 5)
  timer.add({"pseudo_labels_right": 0.0, "pseudo_labels_known": 0.0}, counts)
  assert timer.line()["pseudo_label_accuracy"] is None


# A line waits for its last step, so the next batch is awaited with an idle device.
@pytest.mark.parametrize(
  ("batch", "share"),
  [(0.0, 0.0), (0.9 * STEP, 0.9 / 20), (2 * STEP, 0.5), (4 * STEP, 0.75)],
)
def test_host_share_is_the_time_in_which_the_device_has_no_step(
  monkeypatch, batch, share
):
  lines, _ = run(Device(monkeypatch), 40, 20, batch=batch)
  assert lines[1]["host_share"] == pytest.approx(share, abs=0.03)
  step = max(STEP, batch)
  assert lines[1]["step_seconds"] == pytest.approx(step, rel=0.1)


def test_metrics_that_a_saved_step_lacks_are_left_out():
  counts = {"texts": 4, "tokens": 40, "row_tokens": 50}
  timer = StepTimer([{"loss": 1.0, **counts}], peak=1.0)
  timer.add({"loss": jnp.float32(3.0), "new": jnp.float32(1.0)}, {**counts, "flops": 1})
  line = timer.line()
  assert line["loss"] == 2.0
  assert {"new", "mfu"}.isdisjoint(line)


def test_when_ready_gives_the_time_or_the_error(monkeypatch):
  before = time.perf_counter()
  assert before <= timing.when_ready(jnp.ones(3)).result() <= time.perf_counter()

  def fail(values):
    raise ValueError("lost device")

  monkeypatch.setattr(timing.jax, "block_until_ready", fail)
  with pytest.raises(ValueError, match="lost device"):
    timing.when_ready(()).result()
