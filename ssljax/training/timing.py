"""What the steps since the last line of metrics.jsonl measured."""

import statistics
import time
from typing import Any

import jax
import numpy as np

RIGHT, KNOWN = "pseudo_labels_right", "pseudo_labels_known"  # counts, of a class too


class Window:
  """Collects without holding the devices up; `fetch` waits for them.

  Its content goes into each checkpoint, so that a resumed run writes the same lines.

  Attributes:
    done: values of the steps that were fetched.
    first_seconds: what the first step took that could be timed; None before.
  """

  def __init__(self, saved: list[dict[str, float]] | None = None):
    self.done: list[dict[str, float]] = list(saved or [])
    self.first_seconds: float | None = None
    self._pending: list[tuple[dict[str, jax.Array], dict[str, float]]] = []
    self._seconds: list[float] = []
    self._running: dict[str, jax.Array] | None = None  # the step sent off last
    self._since: float | None = None  # when the devices were free for it

  def add(self, metrics: dict[str, jax.Array], counts: dict[str, float]) -> None:
    """A step that was just sent off; waits for the step before it, and times that."""
    self._settle()
    self._running = metrics
    self._pending.append((metrics, counts))

  def pause(self) -> None:
    """What comes next (a compilation, an evaluation) is no part of a step's time."""
    self._settle()
    self._since = None

  def resume(self) -> None:
    self._since = time.perf_counter()

  def fetch(self) -> list[dict[str, float]]:
    """Values of all steps since the line before, by step."""
    self._settle()
    for metrics, counts in self._pending:
      values = {name: float(np.asarray(v)) for name, v in metrics.items()}
      self.done.append(values | counts)
    self._pending = []
    return self.done

  def line(self) -> dict[str, Any]:
    """The line's values, and an empty window."""
    steps = self.fetch()
    names = steps[-1].keys()
    total = {name: sum(s[name] for s in steps) for name in names}
    values: dict[str, Any] = {
      name: total[name] / len(steps)
      for name in names
      if name not in ("texts", "tokens", "row_tokens", "step")
      and not name.startswith((RIGHT, KNOWN))
    }
    for name in names:
      if name.startswith(KNOWN):
        which, known = name.removeprefix(KNOWN), total[name]
        right = total[RIGHT + which]
        values[f"pseudo_label_accuracy{which}"] = right / known if known else None
    values["real_token_share"] = total["tokens"] / total["row_tokens"]
    if self._seconds:
      median = statistics.median(self._seconds)
      values["step_seconds"] = median
      values["examples_per_second"] = total["texts"] / len(steps) / median
      values["tokens_per_second"] = total["tokens"] / len(steps) / median
    self.done, self._seconds = [], []
    return values

  def _settle(self) -> None:
    """Waits for the step that is running, once, and times it unless paused."""
    if self._running is None:
      return
    jax.block_until_ready(self._running)
    self._running = None
    now = time.perf_counter()
    if self._since is not None:
      self._seconds.append(now - self._since)
      self.first_seconds = self.first_seconds or self._seconds[-1]
      self._since = now
