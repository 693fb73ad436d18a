"""Chooses thresholds on fresh labelled texts, and says what they promise.

  python -m ssljax.thresholds --model=DIR --data=fresh.jsonl --aim=fpr=1%
  python -m ssljax.thresholds --model=DIR --data=fresh.csv --unlabelled=traffic.csv

`--model` is a finished run, or a folder of `python -m ssljax.export`. The texts must be
a random sample of what the model will score, and used for nothing else: neither for
training nor to choose a checkpoint. The thresholds are written into the run
(`thresholds.json`) or the folder (`ssljax.json`), beside the others, so `predict`,
`evaluate` and `SafetyClassifier` know them by name.

The exit code is 1 if an aim can't be promised. Its threshold is then what looks best on
the texts, with a warning. `--unlabelled` compares the scores of new texts with those of
the labelled ones, and warns if thresholds flag another share of them.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from ssljax import aims, cli
from ssljax.aims import Aim
from ssljax.data.pool.hashes import file_sha256
from ssljax.data.records import column_flag, selected, split_files
from ssljax.data.records.records import Records
from ssljax.data.sources import convert, mapped
from ssljax.errors import UserError
from ssljax.evals import calibration, chosen, decisions, drift
from ssljax.evals.runs import read_run
from ssljax.evals.scored import ScoredTexts
from ssljax.evals.used_texts import check_unused
from ssljax.inference import exported
from ssljax.inference.classifier import SafetyClassifier
from ssljax.runtime import lock

NOT_PROMISED = 1  # exit code


def choose_thresholds(
  model: str | Path,
  data: str | Path,
  wanted: Sequence[str] = ("fpr=1%",),
  temperature: str = "keep",
  unlabelled: str | Path | None = None,
  columns: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
  """Chooses thresholds, prints what they promise, and writes them into the model.

  >>> entries = choose_thresholds("runs/demo", "fresh.jsonl", ["fpr=5%"])
  >>> entries["fpr=5%"]["promise"]["rate"]
  0.05

  Args:
    model: a finished run, or an exported folder.
    data: labelled texts that were used for nothing else: a file, or a folder whose test
      split is read.
    wanted: aims; see `aims.parse`.
    temperature: "keep", or "fit" to fit it to these texts, where that helps. Earlier
      thresholds still flag the same texts afterwards.
    unlabelled: file of texts whose scores are compared with those of `data`.
    columns: maps our columns ("text", "label", …) to their names in the files.

  Returns:
    The entries of `decisions.fit_rule`, by aim.

  Raises:
    UserError: the model or the data can't be read, an aim isn't one, the model has more
      than two classes, or some of the texts chose the run's checkpoint, are labelled
      texts of its train split, or were chosen by `ssljax.select`. (What an exported
      folder was trained on isn't known.)
  """
  folder = Path(model).expanduser()
  try:
    parsed = [aims.parse(aim) for aim in wanted]
  except ValueError as error:
    raise UserError(f"--aim={','.join(wanted)}: {error}") from None
  classifier = SafetyClassifier.load(folder)
  if len(classifier.labels) != 2:
    raise UserError(f"--model={model}: {decisions.TWO_CLASSES_ONLY}")
  rows, notes = mapped.read_labelled(data, classifier.labels, columns)
  for note in notes:
    print(note)
  _check_random(rows)
  is_run = not (folder / exported.CARD).is_file()
  if is_run:
    for note in check_unused(rows, read_run(folder)):
      print(note)
  texts = ScoredTexts(_logits(classifier, rows), rows.label)
  before = classifier.temperature
  after, note = before, None
  if temperature == "fit":
    # Relative to the present one, which stays if these texts are too few.
    factor, note = calibration.fit_temperature(texts.logits / before, texts.label)
    limits = (calibration.LOWEST, calibration.HIGHEST)
    after = float(np.clip(before * factor, *limits))
  own = decisions.scored(texts, after)
  name = Path(data).name
  facts = {"data": str(Path(data).expanduser().absolute()), "texts": len(rows)}
  facts["data_sha256"] = [file_sha256(p) for p in split_files.find_test_files(data)]
  entries = {
    str(aim): {**decisions.choose(aim, own, own, after, name), "on": name, **facts}
    for aim in parsed
  }
  with lock.exclusive(folder, "--model", inside=is_run):
    if is_run:
      chosen.write(folder, entries, before, after)
    else:
      exported.add_thresholds(folder, entries, before, after)
  harmless, harmful = own.counts
  print(f"{name}: {harmless:,} harmless and {harmful:,} harmful texts")
  if temperature == "fit":
    more = f" ({note})" if note else ""
    print(f"temperature: {after:.3g}, before {before:.3g}{more}")
  for aim in parsed:
    print(_describe(aim, entries[str(aim)]))
  if unlabelled is not None:
    text_columns = {n: v for n, v in (columns or {}).items() if n in mapped.TEXTS}
    new = _logits(classifier, mapped.read_texts(unlabelled, text_columns))
    scores = decisions.scored(ScoredTexts(new, np.zeros(len(new), np.int64)), after)
    known = {**classifier.thresholds, **{n: e["threshold"] for n, e in entries.items()}}
    for line in drift.describe(own.score, scores.score, known, Path(unlabelled).name):
      print(line)
  print(f"written to {folder / (chosen.FILE if is_run else exported.CARD)}")
  return entries


def _logits(classifier: SafetyClassifier, rows: Records) -> np.ndarray:
  pairs = list(zip(rows.column("text"), rows.column("response"), strict=True))
  ids = rows.column("id")
  return classifier.logits(pairs, lambda i: f"id {ids[i]}").logits


def _check_random(rows: Records) -> None:
  """Refuses texts that a model has chosen: they aren't like the other texts."""
  ids = rows.column("id")
  found = [i for i, s in enumerate(rows.column("source")) if s == selected.SOURCE]
  if found:
    raise UserError(
      f"{rows.location(found[0])}: {len(found)} of these texts were chosen by ssljax "
      f"select (the first is id {ids[found[0]]}), so they can't promise anything for "
      "others; leave them out"
    )


def _describe(aim: Aim, entry: Mapping[str, Any]) -> str:
  if entry["threshold"] is None:
    return f"{aim}: {entry['warning']}"
  line = f"{aim}: threshold {entry['threshold']:.4g}"
  if (made := entry["promise"]) is None:
    return f"{line}, {entry['warning'] or 'which carries no promise'}"
  recall = "" if made["recall"] is None else f"; recall here {made['recall']:.3f}"
  return (
    f"{line}, promised with {made['confidence']:.0%} confidence: "
    f"{aims.describe(str(aim))} ({made['errors']} of {made['texts']:,} here{recall})"
  )


def define_flags() -> None:
  flags.DEFINE_string("model", None, "a run, or an exported folder", required=True)
  flags.DEFINE_string(
    "data", None, "labelled texts that were used for nothing else", required=True
  )
  flags.DEFINE_multi_string(
    "aim", ["fpr=1%"], "such as fpr=1%, recall=95%, precision=90%, review=5%, cost=10:1"
  )
  flags.DEFINE_enum(
    "temperature", "keep", ["keep", "fit"], "fit: to these texts, where that helps"
  )
  column_flag.define(convert.COLUMNS)
  flags.DEFINE_string(
    "unlabelled", None, "file of new texts, to compare their scores with those of data"
  )


def main() -> int:
  values = flags.FLAGS
  entries = choose_thresholds(
    values.model,
    values.data,
    values.aim,
    values.temperature,
    values.unlabelled,
    column_flag.parse(values.columns, convert.COLUMNS),
  )
  refused = [name for name, e in entries.items() if e["needed"] and not e["promise"]]
  if refused:
    print(f"not promised: {', '.join(refused)}", file=sys.stderr)
  return NOT_PROMISED if refused else 0


if __name__ == "__main__":
  define_flags()
  cli.run(main)
