"""Says how many pseudo-labels a run used, and whether its filter passed all or none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssljax.errors import UserError
from ssljax.evals import runs

NEARLY_ALL, HARDLY_ANY = 0.95, 0.01
LAST = 0.2  # share of the run that is judged
NOTHING = "no step used any pseudo-label"  # begins the warning in result.json


def pseudo_labels(workdir: Path, filters: bool) -> dict[str, Any] | None:
  """`summary` of a run; None if its metrics.jsonl cannot be read."""
  try:
    lines = runs.read_history(workdir)["train"]
  except UserError:  # a damaged metrics.jsonl is no reason for the run to fail
    return None
  return summary(lines, filters)


def summary(lines: Sequence[Mapping[str, Any]], filters: bool) -> dict[str, Any] | None:
  """Summarises the pseudo-labels of a run from the train lines of metrics.jsonl.

  Args:
    lines: in the order of steps.
    filters: whether the method has a filter (`Needs.filters`).

  Returns:
    None if the method computes no pseudo-labels, otherwise
    * share: mean weight of the pseudo-labels in the last fifth of the run, where
      weights above 1 count as 1;
    * accuracy: share of the used labels that are right; None if no labels are known;
    * warning: a sentence if no step used any label, or if a filter passed nearly all or
      hardly any; otherwise None.
  """
  lines = [line for line in lines if line.get("mask_rate") is not None]
  if not lines:
    return None
  last = [line for line in lines if line["step"] > (1 - LAST) * lines[-1]["step"]]
  shares = [
    min(line["mask_rate"], line.get("pseudo_label_weight", 1.0)) for line in last
  ]
  right = [
    (line["mask_rate"], line["pseudo_label_accuracy"])
    for line in last
    if line.get("pseudo_label_accuracy") is not None
  ]
  used = sum(rate for rate, _ in right)
  share = sum(shares) / len(shares)
  accuracy = sum(rate * value for rate, value in right) / used if used else None
  nothing = not any(line["mask_rate"] for line in lines)
  return {
    "share": share,
    "accuracy": accuracy,
    "warning": _warning(share, accuracy, nothing, filters),
  }


def outcome(used: Mapping[str, Any] | None) -> str:
  """Says what is wrong with the pseudo-labels of a run, in a clause for its readers.

  Args:
    used: a `summary`, from the run's result.json.

  Returns:
    "" if nothing is wrong, or if there are no pseudo-labels.
  """
  if not used or not used["warning"]:
    return ""
  if used["warning"].startswith(NOTHING):
    return (
      "the method did nothing, because no pseudo-label counted: the model learned from "
      "labelled texts only"
    )
  if used["share"] >= NEARLY_ALL:
    right = used["accuracy"]
    more = ", so wrong ones counted as well"
    if right is not None:
      more = f"; of those whose label is known, {right:.0%} were right"
    return f"the method's filter removed almost no pseudo-label{more}"
  return (
    "hardly any pseudo-label counted at the end: the model learned almost only from "
    "labelled texts"
  )


def _warning(
  share: float, accuracy: float | None, nothing: bool, filters: bool
) -> str | None:
  if nothing:
    return f"{NOTHING} (mask_rate 0); check steps and threshold"
  last = f"in the last fifth of the run, {share:.1%} of the pseudo-labels were used"
  if filters and share >= NEARLY_ALL:
    known = "" if accuracy is None else f" ({accuracy:.0%} of them right)"
    return (
      f"{last}{known}: the method's filter removed almost nothing; if too many of them "
      "are wrong, make the filter stricter (a keyword of the method) or use another "
      "method"
    )
  if filters and share <= HARDLY_ANY:
    return (
      f"{last}: the run learned almost only from labelled texts; make the filter "
      "less strict (a keyword of the method) or train for more steps"
    )
  return None
