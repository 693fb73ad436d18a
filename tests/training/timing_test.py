"""What a step took, as the window times it: on a device and a clock made up here."""

import jax
import pytest

from ssljax.training import timing

STEP, HOST = 0.05, 0.001  # seconds of a step, and of the host between two


class Device:
  """Runs steps one after another while the host goes on; waiting moves the clock."""

  def __init__(self, monkeypatch):
    self.now = self.free = 0.0
    self.ends = {}
    monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)
    monkeypatch.setattr(jax, "block_until_ready", self.wait)

  def send(self, step, seconds):
    self.now += HOST
    self.free = max(self.now, self.free) + seconds
    self.ends[step] = self.free
    return {"loss": float(step)}

  def wait(self, metrics):
    self.now = max(self.now, self.ends[int(metrics["loss"])])


def run(device, steps, log_every, compile_steps=(0,), evaluate_every=0):
  """The lines that a loop like that of train.py writes, and its window."""
  timed, lines = timing.Window(), []
  for t in range(steps):
    fresh = t in compile_steps
    if fresh:
      timed.pause()
    values = device.send(t, 9.0 if fresh else STEP)
    timed.add(values, {"step": t + 1, "texts": 4, "tokens": 40, "row_tokens": 50})
    if fresh:
      timed.pause()
      timed.resume()
    if (t + 1) % log_every == 0:
      lines.append(timed.line())
    if evaluate_every and (t + 1) % evaluate_every == 0:
      timed.pause()
      device.now += 7.0
      timed.resume()
  return lines, timed


@pytest.mark.parametrize("log_every", [1, 2, 3, 10])
@pytest.mark.parametrize("evaluate_every", [0, 4])
def test_a_step_is_timed_however_often_lines_are_written(
  monkeypatch, log_every, evaluate_every
):
  lines, timed = run(Device(monkeypatch), 30, log_every, (0, 15), evaluate_every)
  assert timed.first_seconds == pytest.approx(STEP, rel=0.1)
  for number, line in enumerate(lines):
    if log_every == 1 and number in (0, 15):  # the steps that were compiled
      assert "step_seconds" not in line
      continue
    assert line["step_seconds"] == pytest.approx(STEP, rel=0.1)
    assert line["examples_per_second"] == pytest.approx(4 / STEP, rel=0.1)
    assert line["tokens_per_second"] == pytest.approx(40 / STEP, rel=0.1)
    assert line["real_token_share"] == pytest.approx(0.8)


def test_a_step_is_sent_off_before_the_one_before_it_has_ended(monkeypatch):
  device = Device(monkeypatch)
  timed = timing.Window()
  for t in range(5):
    timed.add(device.send(t, STEP), {"step": t + 1})
    assert device.now <= device.ends.get(t - 1, 0) + 2 * HOST


def test_a_window_that_is_restored_writes_the_line_of_one_that_went_on(monkeypatch):
  device = Device(monkeypatch)
  counts = {"texts": 4, "tokens": 40, "row_tokens": 50}
  straight, first = timing.Window(), timing.Window()
  for t in range(3):
    values = device.send(t, STEP)
    straight.add(values, counts)
    first.add(values, counts)
  second = timing.Window(first.fetch())
  last = device.send(3, STEP)
  straight.add(last, counts)
  second.add(last, counts)
  assert straight.line() == second.line()


def test_accuracy_of_pseudo_labels_weighs_each_known_text_alike():
  timed = timing.Window()
  for right, known in ((1.0, 1.0), (1.0, 4.0), (0.0, 0.0)):
    counts = {"texts": 4, "tokens": 40, "row_tokens": 50}
    seen = {"pseudo_labels_right": right, "pseudo_labels_known": known}
    timed.add(seen, counts)
  assert timed.line()["pseudo_label_accuracy"] == pytest.approx(2 / 5)
  timed.add({"pseudo_labels_right": 0.0, "pseudo_labels_known": 0.0}, counts)
  assert timed.line()["pseudo_label_accuracy"] is None
