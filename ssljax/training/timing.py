"""Collects the metrics and the duration of each step until they are logged."""

import statistics
import threading
import time
from concurrent.futures import Future
from typing import Any

import jax

RIGHT, KNOWN = "pseudo_labels_right", "pseudo_labels_known"  # counts, also by class
COUNTS = ("texts", "tokens", "row_tokens", "flops", "step")  # not averaged


class StepTimer:
  """Times steps without blocking their dispatch, and averages their metrics.

  Each checkpoint contains the values of the steps since the last logged line, so a
  resumed run logs the same lines as an uninterrupted run.

  Attributes:
    values: metrics of the fetched steps since the last logged line.
    first_seconds: duration of the first step that was timed; None until then.
  """

  def __init__(
    self, saved: list[dict[str, float]] | None = None, peak: float | None = None
  ):
    """Continues with the saved `values` of a checkpoint.

    Args:
      peak: FLOP/s of the devices of this process, for `mfu`; None if unknown.
    """
    self._peak = peak
    self.values: list[dict[str, float]] = list(saved or [])
    self.first_seconds: float | None = None
    self._pending: list[tuple[dict[str, jax.Array], dict[str, float]]] = []
    self._seconds: list[float] = []
    self._idle: list[float] = []  # as long as `_seconds`
    self._running: Future[float] | None = None  # when the last step ends
    self._dispatched = 0.0  # when the last step was
    self._since: float | None = None  # when the devices could start that step

  def add(self, metrics: dict[str, jax.Array], counts: dict[str, float]) -> None:
    """Adds a step that was just dispatched; first waits for the previous one.

    Args:
      metrics: of the step, still on the devices.
      counts: "step", "texts", "tokens" and "row_tokens" of its batch; "flops" if its
        FLOPs are known.
    """
    dispatched, running = time.perf_counter(), when_ready(metrics)
    self._finish_running()
    self._dispatched, self._running = dispatched, running
    self._pending.append((metrics, counts))

  def pause(self) -> None:
    """Stops the clock, for example during a compilation or an evaluation."""
    self._finish_running()
    self._since = None

  def resume(self) -> None:
    self._since = time.perf_counter()

  def fetch(self) -> list[dict[str, float]]:
    """Waits for the devices; returns the metrics of each step since the last line."""
    self._finish_running()
    for metrics, counts in self._pending:
      self.values.append({name: float(v) for name, v in metrics.items()} | counts)
    self._pending = []
    return self.values

  def line(self) -> dict[str, Any]:
    """Averages the steps since the last line, then drops them."""
    steps = self.fetch()
    # Steps from a checkpoint of an older version have fewer metrics.
    names = [name for name in steps[-1] if all(name in s for s in steps)]
    total = {name: sum(s[name] for s in steps) for name in names}
    values: dict[str, Any] = {
      name: total[name] / len(steps)
      for name in names
      if name not in COUNTS and not name.startswith((RIGHT, KNOWN))
    }
    for name in names:
      if name.startswith(KNOWN):
        suffix = name.removeprefix(KNOWN)  # "" or ".<class>"
        right, known = total[RIGHT + suffix], total[name]
        values[f"pseudo_label_accuracy{suffix}"] = right / known if known else None
    values["real_token_share"] = total["tokens"] / total["row_tokens"]
    if self._seconds:
      median = statistics.median(self._seconds)
      values["step_seconds"] = median
      values["examples_per_second"] = total["texts"] / len(steps) / median
      # Each process counts only the tokens of its texts: about its share.
      tokens = total["tokens"] * jax.process_count()
      values["tokens_per_second"] = tokens / len(steps) / median
      values["host_share"] = sum(self._idle) / sum(self._seconds)
      if self._peak and "flops" in total:
        values["mfu"] = total["flops"] / len(steps) / median / self._peak
    self.values, self._seconds, self._idle = [], [], []
    return values

  def _finish_running(self) -> None:
    """Waits for the running step, and times it unless paused."""
    if self._running is None:
      return
    ended, self._running = self._running.result(), None
    if self._since is not None:
      seconds = max(ended - self._since, 1e-9)
      self._seconds.append(seconds)
      self._idle.append(min(max(self._dispatched - self._since, 0.0), seconds))
      self.first_seconds = self.first_seconds or seconds
      self._since = ended


def when_ready(values: Any) -> Future[float]:
  """The time, as of `time.perf_counter`, at which the devices finish these arrays.

  A thread waits for them, so that it's known how long the devices waited for the next
  step if this thread was late.
  """
  future: Future[float] = Future()

  def wait() -> None:
    try:
      jax.block_until_ready(values)
      future.set_result(time.perf_counter())
    except BaseException as error:
      future.set_exception(error)

  threading.Thread(target=wait, daemon=True).start()
  return future
