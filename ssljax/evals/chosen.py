"""Thresholds that are chosen after a run: those of thresholds.json, and other aims."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from ssljax.aims import Aim
from ssljax.errors import UserError
from ssljax.evals import decisions
from ssljax.evals.decisions import DecisionRule
from ssljax.evals.predictions import read_predictions
from ssljax.evals.scored import ScoredTexts
from ssljax.runtime.json_files import write_json

FILE = "thresholds.json"


def write(
  workdir: Path, entries: Mapping[str, Mapping[str, Any]], before: float, after: float
) -> None:
  """Adds thresholds to a run, beside those that are there.

  Args:
    entries: by aim; see `decisions.fit_rule`. They replace those with the same aim.
    before: the temperature until now.
    after: the temperature that the new thresholds are for. The others are converted, so
      that they flag the same texts as before.
  """
  saved = _read(workdir) if (workdir / FILE).exists() else {"thresholds": {}}
  kept = convert_entries(saved["thresholds"], before, after)
  result = json.loads((workdir / "result.json").read_text(encoding="utf-8"))
  content = {"step": result["step"], "temperature": after}
  write_json(workdir / FILE, {**content, "thresholds": {**kept, **entries}})


def convert(threshold: float | None, before: float, after: float) -> float | None:
  """The threshold that flags the same texts at another temperature."""
  if threshold is None or before == after or not 0 < threshold < 1:
    return threshold
  return float(special.expit(special.logit(np.float64(threshold)) * before / after))


def convert_entries(
  entries: Mapping[str, Mapping[str, Any]], before: float, after: float
) -> dict[str, dict[str, Any]]:
  """Entries of `decisions.fit_rule`, with each of their thresholds converted."""
  converted = {}
  for name, entry in entries.items():
    moved = {
      key: convert(entry[key], before, after) for key in ("threshold", "empirical")
    }
    if tightest := entry["tightest"]:
      value = convert(tightest["threshold"], before, after)
      moved["tightest"] = {**tightest, "threshold": value}
    converted[name] = {**entry, **moved}
  return converted


def apply(folder: Path, rule: DecisionRule, step: int) -> DecisionRule:
  """Adds the thresholds that were chosen on fresh texts to a run's own rule.

  Raises:
    UserError: thresholds.json can't be read, or belongs to another checkpoint.
  """
  if not (folder / FILE).exists():
    return rule
  saved = _read(folder)
  if saved["step"] != step:
    raise UserError(
      f"{folder / FILE}: its thresholds are for step {saved['step']}, but the model is "
      f"of step {step}; delete it, and choose them again"
    )
  after = saved["temperature"]
  own = convert_entries(rule.thresholds, rule.temperature, after)
  undefined = dict(rule.undefined)
  if after != rule.temperature:
    undefined.pop("temperature", None)  # the new one was fitted to other texts
  return DecisionRule(after, {**own, **saved["thresholds"]}, undefined)


def for_aim(workdir: Path, temperature: float, aim: Aim) -> dict[str, Any]:
  """Chooses a threshold for an aim that the run's config doesn't have.

  Args:
    workdir: folder of a finished run with two classes. Its predictions on validation
      texts, and on calibration texts if it has them, choose the threshold.
    temperature: of the scores that the threshold is for.

  Returns:
    An entry of `decisions.fit_rule`.

  Raises:
    UserError: the predictions can't be read.
  """
  folder = workdir / "predictions"
  own, name = None, "calibration"
  saved = read_predictions(folder / "validation.parquet")
  texts = ScoredTexts(saved.logits, saved.label)
  if (folder / f"{name}.parquet").exists():
    saved = read_predictions(folder / f"{name}.parquet")
    held_back = ScoredTexts(saved.logits, saved.label)
    own = decisions.scored(held_back, temperature)
    texts = texts.joined(held_back)
  whole = decisions.scored(texts, temperature)
  return decisions.choose(aim, whole, own, temperature, name)


def with_aims(workdir: Path, rule: DecisionRule, wanted: Sequence[Aim]) -> DecisionRule:
  """Adds thresholds for those of the aims that the rule doesn't have; see `for_aim`."""
  added = {
    str(aim): for_aim(workdir, rule.temperature, aim)
    for aim in wanted
    if str(aim) not in rule.thresholds
  }
  return rule._replace(thresholds={**rule.thresholds, **added})


def _read(folder: Path) -> dict[str, Any]:
  path = folder / FILE
  try:
    saved = json.loads(path.read_text(encoding="utf-8"))
    entries = decisions.read_entries(saved["thresholds"])
    decisions.check_rule(
      saved["temperature"], {n: e["threshold"] for n, e in entries.items()}
    )
    return {"step": saved["step"], "temperature": saved["temperature"]} | {
      "thresholds": entries
    }
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f"{path}: cannot be read ({error!r}); delete it, and choose the thresholds again "
      "with python -m ssljax.thresholds"
    ) from None
