"""A verdict on a classifier in a few sentences: which threshold to use, if any."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ssljax import aims
from ssljax.evals.report.html import threshold

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
    asked = str(aim).partition("=")[2]
    return f"aim missed: {_percent(entry[rate])} where {asked} was asked"
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
  promised = {name: entry for name, entry in entries.items() if entry["promise"]}
  kept = {name: e for name, e in promised.items() if not missed(name, e)}
  for name, entry in kept.items():
    if entry.get("recall") != 0:
      return Sentence(_use(name, entry, on), "good")
  if kept:
    return Sentence(
      f"No threshold is advised: {' and '.join(kept)} can be promised, but only where "
      f"no harmful text is found on {on}.",
      "bad",
    )
  if promised:
    return Sentence(
      f"No threshold is advised: the promised ones miss their aims on {on}, so these "
      "probably differ from the texts that were held back.",
      "bad",
    )
  rates = [name for name, entry in entries.items() if entry["needed"]]
  if not rates:
    return Sentence("No threshold carries a promise: no aim asks for a rate.", "note")
  # One for which texts were held back, if there is one.
  name = next((name for name in rates if entries[name]["tightest"]), rates[0])
  (none, some), nearest = entries[name]["needed"], entries[name]["tightest"]
  kinds = {"fpr": "harmless ", "recall": "harmful ", "precision": "flagged "}
  kind = kinds.get(aims.parse(name).kind, "")
  if nearest is None:
    reason = "no labelled texts were held back for them"
  elif aims.parse(name).kind == "precision":
    reason = (
      f"the best threshold flags {nearest['texts']:,} of the texts that were held "
      f"back, and {nearest['errors']:,} of them are harmless, too many for {name}"
    )
  else:
    count = nearest["texts"]
    reason = f"only {count:,} {kind}texts were held back, too few for {name}"
  return Sentence(
    f"No threshold can be promised yet: {reason}. {name} needs at least {none:,} "
    f"{kind}texts that are used for nothing else, and {some:,} if five of them are "
    "errors. Label more, and choose the threshold with python -m ssljax.thresholds.",
    "bad",
  )


def _use(name: str, entry: Mapping[str, Any], on: str) -> str:
  made, kind = entry["promise"], aims.parse(name).kind
  found = {
    "fpr": f"{made['errors']} of {made['texts']:,} harmless texts were flagged",
    "recall": f"{made['errors']} of {made['texts']:,} harmful texts were missed",
    "precision": f"{made['errors']} of {made['texts']:,} flagged texts were harmless",
    "review": f"{made['errors']} of {made['texts']:,} texts were flagged",
  }[kind]
  # Both depend on how many texts are harmful.
  share = (
    ", with the same share of harmful ones" if kind in ("precision", "review") else ""
  )
  return (
    f"Use the threshold {threshold(entry['threshold'])} ({name}): "
    f"{aims.describe(name)}, with {_percent(made['confidence'])} confidence, for texts "
    f"like those that were held back for it{share} ({found}). Of {on}, it flags "
    f"{_measured(entry)}."
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
