"""A verdict on a classifier in a few sentences: which threshold to use, if any."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ssljax import aims

WORSE = 0.01  # nats of log loss by which calibration may raise it unremarked
# The rate of an entry that an aim is about, and whether it's an upper limit.
RATE_OF = {
  "fpr": ("false_positive_rate", True),
  "review": ("flagged", True),
  "recall": ("recall", False),
  "precision": ("precision", False),
}


class Sentence(NamedTuple):
  text: str
  kind: str  # "good", "bad" or "note"


def missed(name: str, entry: Mapping[str, Any]) -> str | None:
  """Says that a threshold misses its aim on the test texts; None if it's not clear.

  It's clear if the whole 95% interval of the rate is on the wrong side.

  Args:
    name: of the aim.
    entry: of `thresholds` in result.json or metrics.json.
  """
  aim = aims.parse(name)
  if aim.kind not in RATE_OF or entry["threshold"] is None:
    return None
  rate, is_limit = RATE_OF[aim.kind]
  interval = entry.get(f"{rate}_interval")
  if interval is None:
    return None
  low, high = interval
  if (low > aim.value) if is_limit else (high < aim.value):
    return f"aim missed: {_percent(entry[rate])} where {_percent(aim.value)} was asked"
  return None


def verdict(result: Mapping[str, Any], on: str = "the test texts") -> list[Sentence]:
  """What to do with the thresholds of a run or an evaluation, most important first.

  Args:
    result: of result.json or metrics.json, as `runs.read_run` returns it.
    on: the texts on which the rates were measured.
  """
  entries = result["thresholds"]
  sentences = [_advice(entries, on)] if entries else []
  for name, entry in entries.items():
    if text := missed(name, entry):
      sentences.append(Sentence(f"{name}: {text}, on {on}.", "bad"))
  before, after = (result["calibration"][when] for when in ("before", "after"))
  if after["nll"] > before["nll"] + WORSE:
    sentences.append(
      Sentence(
        f"Calibration made the scores of {on} worse: the log loss rose from "
        f"{before['nll']:.3f} to {after['nll']:.3f}. Fit the temperature on texts that "
        "resemble them.",
        "bad",
      )
    )
  return sentences


def _advice(entries: Mapping[str, Mapping[str, Any]], on: str) -> Sentence:
  promised = {
    name: entry
    for name, entry in entries.items()
    if entry["promise"] and not missed(name, entry)
  }
  for name, entry in promised.items():
    made = entry["promise"]
    kind = aims.parse(name).kind
    found = {
      "fpr": f"{made['errors']} of {made['texts']:,} harmless texts were flagged",
      "recall": f"{made['errors']} of {made['texts']:,} harmful texts were missed",
      "precision": f"{made['errors']} of {made['texts']:,} flagged texts were harmless",
      "review": f"{made['errors']} of {made['texts']:,} texts were flagged",
    }[kind]
    return Sentence(
      f"Use the threshold {entry['threshold']:.4g} ({name}): {aims.describe(name)}, "
      f"with {_percent(made['confidence'])} confidence, for texts like those that were "
      f"held back for it ({found}). Of {on}, it flags {_measured(entry)}.",
      "good",
    )
  if any(entry["promise"] for entry in entries.values()):
    return Sentence(
      f"No threshold is advised: the promised ones miss their aims on {on}, so these "
      "differ from the texts that were held back.",
      "bad",
    )
  nearest = next((e for e in entries.values() if e["tightest"]), None)
  wanted = next((name for name, e in entries.items() if e["needed"]), None)
  if wanted is None:
    return Sentence("No threshold carries a promise: no aim asks for a rate.", "note")
  none, some = entries[wanted]["needed"]
  kind = {"fpr": "harmless ", "recall": "harmful ", "precision": "flagged "}.get(
    aims.parse(wanted).kind, ""
  )
  if nearest is None:
    reason = "no labelled texts were held back for them"
  else:
    count = nearest["tightest"]["texts"]
    reason = f"only {count:,} {kind}texts were held back, too few for {wanted}"
  return Sentence(
    f"No threshold can be promised yet: {reason}. {wanted} needs at least {none:,} "
    f"{kind}texts that are used for nothing else, and {some:,} if five of them are "
    "errors. Label more, and choose the threshold with python -m ssljax.thresholds.",
    "bad",
  )


def _measured(entry: Mapping[str, Any]) -> str:
  false, recall = entry.get("false_positive_rate"), entry.get("recall")
  parts = [
    f"{_percent(rate)} of the {kind} ones"
    for rate, kind in ((false, "harmless"), (recall, "harmful"))
    if rate is not None
  ]
  return " and ".join(parts)


def _percent(share: float) -> str:
  return f"{100 * share:.3g}%"


def by_threshold(
  entries: Mapping[str, Mapping[str, Any]],
) -> list[tuple[list[str], Mapping[str, Any]]]:
  """Groups aims whose thresholds are the same: (names, entry of the first)."""
  groups: dict[Any, tuple[list[str], Mapping[str, Any]]] = {}
  for name, entry in entries.items():
    key = name if entry["threshold"] is None else entry["threshold"]
    groups.setdefault(key, ([], entry))[0].append(name)
  return list(groups.values())
