"""What the steps since the last line of metrics.jsonl measured."""

import statistics
import time
from typing import Any

import jax
import numpy as np

SUMMED = ("pseudo_labels_right", "pseudo_labels_known")


class Window:
  """Collects without waiting for the devices; `fetch` waits.

  Its content goes into each checkpoint, so that a resumed run writes the same lines.
  """

  def __init__(self, saved: list[dict[str, float]] | None = None):
    self.done: list[dict[str, float]] = list(saved or [])
    self.pending: list[tuple[dict[str, jax.Array], dict[str, float]]] = []
    self.seconds: list[float] = []
    self.last: float | None = None  # when the step before was seen to end

  def add(self, metrics: dict[str, jax.Array], counts: dict[str, float]) -> None:
    """A step that was just sent off; waits for the step before it, and times that."""
    before = self.pending[-1][0] if self.pending else None
    self.pending.append((metrics, counts))
    if before is not None:
      jax.block_until_ready(before)
      now = time.perf_counter()
      if self.last is not None:
        self.seconds.append(now - self.last)
      self.last = now

  def pause(self) -> None:
    """What comes next (a compilation, an evaluation) is no part of a step's time."""
    if self.pending:
      jax.block_until_ready(self.pending[-1][0])
      if self.last is not None:
        self.seconds.append(time.perf_counter() - self.last)
    self.last = None

  def resume(self) -> None:
    self.last = time.perf_counter()

  def fetch(self) -> list[dict[str, float]]:
    """Values of all steps since the line before, by step."""
    for metrics, counts in self.pending:
      values = {name: float(np.asarray(v)) for name, v in metrics.items()}
      self.done.append(values | counts)
    self.pending = []
    return self.done

  def line(self) -> dict[str, Any]:
    """The line's values, and an empty window."""
    steps = self.fetch()
    names = steps[-1].keys()
    total = {name: sum(s[name] for s in steps) for name in names}
    values: dict[str, Any] = {
      name: total[name] / len(steps)
      for name in names
      if name not in (*SUMMED, "texts", "tokens", "row_tokens", "step")
    }
    if "pseudo_labels_known" in names:
      known = total["pseudo_labels_known"]
      values["pseudo_label_accuracy"] = (
        total["pseudo_labels_right"] / known if known else None
      )
    values["real_token_share"] = total["tokens"] / total["row_tokens"]
    if self.seconds:
      median = statistics.median(self.seconds)
      values["step_seconds"] = median
      values["examples_per_second"] = total["texts"] / len(steps) / median
      values["tokens_per_second"] = total["tokens"] / len(steps) / median
    self.done, self.seconds = [], []
    return values
