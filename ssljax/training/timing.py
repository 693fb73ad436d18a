"""Collects the metrics and the duration of each step until they are logged."""

import statistics
import time
from typing import Any

import jax

RIGHT, KNOWN = "pseudo_labels_right", "pseudo_labels_known"  # counts, also by class
COUNTS = ("texts", "tokens", "row_tokens", "step")  # not averaged


class StepTimer:
  """Times steps without blocking their dispatch, and averages their metrics.

  Each checkpoint contains the values of the steps since the last logged line, so a
  resumed run logs the same lines as an uninterrupted run.

  Attributes:
    values: metrics of the fetched steps since the last logged line.
    first_seconds: duration of the first step that was timed; None until then.
  """

  def __init__(self, saved: list[dict[str, float]] | None = None):
    self.values: list[dict[str, float]] = list(saved or [])
    self.first_seconds: float | None = None
    self._pending: list[tuple[dict[str, jax.Array], dict[str, float]]] = []
    self._seconds: list[float] = []
    self._running: dict[str, jax.Array] | None = None  # metrics of the last step
    self._since: float | None = None  # when the devices could start that step

  def add(self, metrics: dict[str, jax.Array], counts: dict[str, float]) -> None:
    """Adds a step that was just dispatched; first waits for the previous one.

    Args:
      metrics: of the step, still on the devices.
      counts: "step", "texts", "tokens" and "row_tokens" of its batch.
    """
    self._finish_running()
    self._running = metrics
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
    names = steps[-1].keys()
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
      values["tokens_per_second"] = total["tokens"] / len(steps) / median
    self.values, self._seconds = [], []
    return values

  def _finish_running(self) -> None:
    """Waits for the running step, and times it unless paused."""
    if self._running is None:
      return
    jax.block_until_ready(self._running)
    self._running = None
    now = time.perf_counter()
    if self._since is not None:
      self._seconds.append(now - self._since)
      self.first_seconds = self.first_seconds or self._seconds[-1]
      self._since = now
