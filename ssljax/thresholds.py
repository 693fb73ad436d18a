"""Chooses thresholds on fresh labelled texts, and says what they promise.

  python -m ssljax.thresholds --model=DIR --data=fresh.jsonl --aim=fpr=1%
  python -m ssljax.thresholds --model=DIR --data=fresh.csv --unlabelled=traffic.csv

`--model` is a finished run, or a folder of `python -m ssljax.export`. The texts must be
a random sample of what the model will score, and used for nothing else: neither for
training nor to choose a checkpoint. Those that a run has used are refused. The
thresholds are written into the run (`thresholds.json`) or the folder (`ssljax.json`),
beside the others, so `predict`, `evaluate` and `SafetyClassifier` know them by name.

The exit code is 3 if an aim can't be promised. Its threshold is then what looks best on
the texts, with a warning. `--unlabelled` compares the scores of new texts with those of
the labelled ones, and warns if thresholds flag another share of them. Without `--data`,
it compares them with the texts that a run held back, and changes nothing.
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
from ssljax.data.records import column_flag, split_files
from ssljax.data.records.records import Records
from ssljax.data.sources import convert, mapped
from ssljax.errors import UserError
from ssljax.evals import calibration, chosen, decisions, drift, unused
from ssljax.evals.classification import score_of, softmax
from ssljax.evals.report import html, model_card
from ssljax.evals.runs import read_run
from ssljax.evals.scored import ScoredTexts
from ssljax.inference import exported
from ssljax.inference.classifier import SafetyClassifier
from ssljax.runtime import lock

NOT_PROMISED = 3  # exit code, as `decide.LABEL`


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
      than two classes, or the texts were used for something else (see `unused.check`).
  """
  folder = Path(model).expanduser()
  try:
    parsed = [aims.parse(aim) for aim in wanted]
  except ValueError as error:
    raise UserError(f"--aim={','.join(wanted)}: {error}") from None
  is_run = not (folder / exported.CARD).is_file()
  if not folder.is_dir():
    SafetyClassifier.load(folder)  # raises
  # From here on, so that another command can't change the temperature meanwhile.
  with lock.exclusive(folder, "--model", inside=is_run):
    return _choose(folder, is_run, data, parsed, temperature, unlabelled, columns)


def _choose(
  folder: Path,
  is_run: bool,
  data: str | Path,
  wanted: Sequence[Aim],
  temperature: str,
  unlabelled: str | Path | None,
  columns: Mapping[str, str] | None,
) -> dict[str, dict[str, Any]]:
  classifier = SafetyClassifier.load(folder)
  if len(classifier.labels) != 2:
    raise UserError(f"--model={folder}: {decisions.TWO_CLASSES_ONLY}")
  rows, notes = mapped.read_labelled(data, classifier.labels, columns)
  new = _read_new(unlabelled, columns) if unlabelled else None
  notes = [*notes, *unused.check(rows, read_run(folder) if is_run else None)]
  for note in notes:
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
  path = Path(data).expanduser().absolute()
  name = path.name
  # Others may see an exported folder.
  place = str(path) if is_run else name
  facts: dict[str, Any] = {"data": place, "texts": len(rows)}
  facts["data_sha256"] = [file_sha256(p) for p in split_files.find_test_files(path)]
  entries = {
    str(aim): {**decisions.choose(aim, own, own, after, name), "on": name, **facts}
    for aim in wanted
  }
  if is_run:
    chosen.write(folder, entries, before, after)
  else:
    every = exported.add_thresholds(folder, entries, before, after)
    model_card.update(folder / exported.README, every, entries)
  harmless, harmful = own.counts
  print(f"{name}: {harmless:,} harmless and {harmful:,} harmful texts")
  if temperature == "fit":
    more = f" ({note})" if note else ""
    print(f"temperature: {after:.3g}, before {before:.3g}{more}")
  for aim in wanted:
    print(_describe(aim, entries[str(aim)]))
  if unlabelled and new is not None:
    earlier = classifier.thresholds.items()
    known = {n: chosen.convert(t, before, after) for n, t in earlier}
    known |= {n: entry["threshold"] for n, entry in entries.items()}
    score = score_of(softmax(_logits(classifier, new), after))
    for line in drift.describe(own.score, score, known, Path(unlabelled).name):
      print(line)
  print(f"written to {folder / (chosen.FILE if is_run else exported.CARD)}")
  return entries


def compare_scores(
  model: str | Path,
  unlabelled: str | Path,
  columns: Mapping[str, str] | None = None,
) -> None:
  """Prints whether new texts have other scores than those that a run held back.

  (Or than those of validation, if it held back none.) It changes nothing.

  Args:
    model: a finished run.
    unlabelled, columns: as for `choose_thresholds`.

  Raises:
    UserError: the run or the texts can't be read, or there are more than two classes.
  """
  folder = Path(model).expanduser()
  if (folder / exported.CARD).is_file():
    raise UserError(
      f"--model={model}: an exported folder has no scores to compare with; give the "
      "labelled texts on which its thresholds were chosen, with --data"
    )
  classifier, run = SafetyClassifier.load(folder), read_run(folder)
  if len(classifier.labels) != 2:
    raise UserError(f"--model={model}: {decisions.TWO_CLASSES_ONLY}")
  new = _read_new(unlabelled, columns)
  held_back = (folder / "predictions" / "calibration.parquet").exists()
  known = run.predictions("calibration" if held_back else "validation").logits
  logits = (known, _logits(classifier, new))
  scores = (score_of(softmax(part, classifier.temperature)) for part in logits)
  thresholds, name = classifier.thresholds, Path(unlabelled).name
  for line in drift.describe(*scores, thresholds, name):
    print(line)


def _read_new(path: str | Path, columns: Mapping[str, str] | None) -> Records:
  text_columns = {n: v for n, v in (columns or {}).items() if n in mapped.TEXTS}
  return mapped.read_texts(path, text_columns)


def _logits(classifier: SafetyClassifier, rows: Records) -> np.ndarray:
  pairs = list(zip(rows.column("text"), rows.column("response"), strict=True))
  ids = rows.column("id")
  return classifier.logits(pairs, lambda i: f"id {ids[i]}").logits


def _describe(aim: Aim, entry: Mapping[str, Any]) -> str:
  if entry["threshold"] is None:
    return f"{aim}: {entry['warning']}"
  line = f"{aim}: threshold {html.threshold(entry['threshold'])}"
  if (made := entry["promise"]) is None:
    return f"{line}, {entry['warning'] or 'which carries no promise'}"
  recall = "" if made["recall"] is None else f"; recall here {made['recall']:.3f}"
  return (
    f"{line}, promised with {made['confidence']:.0%} confidence: "
    f"{aims.describe(str(aim))} ({made['errors']} of {made['texts']:,} here{recall})"
  )


def define_flags() -> None:
  flags.DEFINE_string("model", None, "a run, or an exported folder", required=True)
  flags.DEFINE_string("data", None, "labelled texts that were used for nothing else")
  flags.DEFINE_multi_string(
    "aim", ["fpr=1%"], "such as fpr=1%, recall=95%, precision=90%, review=5%, cost=10:1"
  )
  flags.DEFINE_enum(
    "temperature", "keep", ["keep", "fit"], "fit: to these texts, where that helps"
  )
  column_flag.define(convert.COLUMNS)
  flags.DEFINE_string(
    "unlabelled",
    None,
    "file of new texts, to compare their scores with those of known ones",
  )


def main() -> int:
  values = flags.FLAGS
  columns = column_flag.parse(values.columns, convert.COLUMNS)
  if values.data is None:
    if values.unlabelled is None:
      raise UserError("--data: give labelled texts, or only new ones: --unlabelled")
    compare_scores(values.model, values.unlabelled, columns)
    return 0
  entries = choose_thresholds(
    values.model,
    values.data,
    values.aim,
    values.temperature,
    values.unlabelled,
    columns,
  )
  refused = [name for name, e in entries.items() if e["needed"] and not e["promise"]]
  if refused:
    print(f"not promised: {', '.join(refused)}", file=sys.stderr)
  return NOT_PROMISED if refused else 0


if __name__ == "__main__":
  define_flags()
  cli.run(main)
