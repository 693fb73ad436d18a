"""Chooses texts of an unlabelled pool to label next, and lists doubtful labels.

  python -m ssljax.select --model=RUN --data=POOL --number=50 --output=next.csv
  python -m ssljax.select --model=RUN --doubts=doubts.csv

`--model` is a run, or a folder of `python -m ssljax.export`. The pool is a JSONL, CSV,
TSV or Parquet file of texts, or a dataset, of which the unlabelled rows of train count.
Fill in the column `label_name` of the output, in a spreadsheet for example, and add the
labels to your dataset:

  python -m ssljax.data.prepare --source=FOLDER --add=next.csv --output=NEW_FOLDER

Rows that have a label, and texts that are, or nearly are, among the labelled,
validation or test texts of the run are never proposed. docs/labelling.md explains the
strategies and their limits.
"""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from ssljax import cli, options
from ssljax.data.records import column_flag, selected
from ssljax.data.records.records import Records
from ssljax.data.sources import convert
from ssljax.errors import UserError
from ssljax.evals.classification import score_of
from ssljax.inference.classifier import SafetyClassifier
from ssljax.inference.exported import CARD
from ssljax.inference.load import TrainedModel, load_trained
from ssljax.runtime import lock
from ssljax.selection import choose, confident_learning, pool, table
from ssljax.selection.strategies import STRATEGIES


def select(
  model: str,
  data: str = "",
  number: int = 50,
  output: str = "next.csv",
  strategy: str = "mixed",
  seed: int = 0,
  against: Sequence[str] = (),
  columns: Mapping[str, str] | None = None,
  doubts: str = "",
) -> list[str]:
  """Writes the texts to label next, and the doubtful labels; returns notes for the log.

  Args:
    model: folder of a run, or an exported folder.
    data: the pool; "" if only `doubts` are wanted.
    number: how many texts to choose, at most.
    output: the table to write: .csv, .tsv, .jsonl or .parquet.
    strategy: one of `selection.strategies.STRATEGIES`.
    seed: the same seed chooses the same texts.
    against: files or folders with more texts that must not be proposed.
    columns: maps `id`, `text`, `response`, `label` to the names of the pool's columns.
    doubts: the table of doubtful labels; "" for none.

  Raises:
    UserError: a mistake in the arguments or files; nothing can be proposed.
  """
  if not data and not doubts:
    raise UserError("give --data=POOL, --doubts=FILE or both")
  if strategy not in STRATEGIES:
    near = options.nearest(strategy, STRATEGIES)
    raise UserError(f"--strategy={strategy}: no such strategy{near}")
  if number < 1:
    raise UserError(f"--number={number}: give 1 or more")
  folder = Path(model).expanduser()
  is_exported = (folder / CARD).is_file()
  if doubts and is_exported:
    raise UserError(
      f"--doubts needs the run that {model} was exported from: an exported folder "
      "doesn't say which texts it was trained on; give its folder as --model"
    )
  with contextlib.ExitStack() as stack:
    places = {}
    if doubts and data and Path(doubts).absolute() == Path(output).absolute():
      raise UserError(f"--doubts={doubts}: the same file as --output; name another")
    for flag, name in (("--output", output if data else ""), ("--doubts", doubts)):
      if name:
        places[flag] = table.check_output(flag, name)
        stack.enter_context(lock.exclusive(places[flag], flag))
    trained = None if is_exported else load_trained(folder)
    classifier = SafetyClassifier.load(folder)
    return _select(
      classifier, trained, data, number, places, strategy, seed, against, columns or {}
    )


def _select(
  classifier: SafetyClassifier,
  trained: TrainedModel | None,
  data: str,
  number: int,
  places: Mapping[str, Path],
  strategy: str,
  seed: int,
  against: Sequence[str],
  columns: Mapping[str, str],
) -> list[str]:
  notes: list[str] = []
  tables: dict[str, dict[str, Sequence]] = {}  # flag -> columns; written together
  splits = pool.read_run_splits(trained.workdir, trained.config) if trained else None
  if "--output" in places:
    candidates = pool.read_pool(data, columns)
    labelled = [candidates.labelled, *pool.read_against(data, against)]
    others = []
    if splits:
      labelled.append(pool.labelled_rows(splits.train))
      others = [splits.validation, splits.test]
    candidates = pool.without_copies(candidates, [*labelled, *others])
    chosen = choose.choose(
      classifier, candidates.rows, labelled, others, number, strategy, seed
    )
    tables["--output"] = _chosen_columns(chosen, classifier.labels, strategy)
    notes += _describe_chosen(chosen, candidates, classifier.labels, strategy)
    if len(chosen.rows) < number:
      notes.append(f"fewer than {number}: no other rows are different enough")
    if not splits and not against:
      notes.append(
        "an exported folder doesn't say which texts it was trained on: to leave them "
        "and your test texts out, add --against=DATASET, or give the run as --model"
      )
  if "--doubts" in places:
    assert trained is not None
    assert splits is not None
    found, records, more = confident_learning.doubts_of_run(
      trained, classifier, splits, seed
    )
    tables["--doubts"] = _doubt_columns(found, records, classifier.labels)
    counts = ", ".join(
      f"{sum(doubt.split == name for doubt in found)} of {len(part)} in {name}"
      for name, part in records.items()
    )
    notes += [*more, f"doubtful labels: {counts}"]
  for flag, columns_ in tables.items():
    notes += table.write_table(flag, places[flag], columns_)
    notes.append(f"wrote {places[flag]}")
  return notes


def _chosen_columns(
  chosen: choose.Chosen, labels: Sequence[str], strategy: str
) -> dict[str, Sequence]:
  rows, count = chosen.rows, len(chosen.rows)
  return {
    **{name: rows.column(name) for name in ("id", "text", "response")},
    "label_name": [None] * count,
    "source": [strategy if strategy == "random" else selected.SOURCE] * count,
    "reason": chosen.reasons,
    "predicted": [labels[c] for c in chosen.predicted],
    "score": score_of(chosen.probability).tolist(),
  }


def _describe_chosen(
  chosen: choose.Chosen, candidates: pool.Pool, labels: Sequence[str], strategy: str
) -> list[str]:
  by_class = ", ".join(
    f"{int((chosen.predicted == c).sum())} predicted {name}"
    for c, name in enumerate(labels)
  )
  total = len(candidates.rows)
  left_out = {**candidates.left_out, **chosen.left_out}
  return [
    f"{len(chosen.rows)} of {total} texts chosen ({strategy}): {by_class}",
    *(f"left out: {n} rows {why}" for why, n in left_out.items()),
  ]


def _doubt_columns(
  found: Sequence[confident_learning.Doubt],
  records: Mapping[str, Records],
  labels: Sequence[str],
) -> dict[str, Sequence]:
  names = ("id", "text", "response")
  texts = {
    split: {name: part.column(name) for name in names}
    for split, part in records.items()
  }
  return {
    **{
      name: [texts[doubt.split][name][doubt.row] for doubt in found] for name in names
    },
    "label_name": [labels[doubt.label] for doubt in found],
    "suggested": [labels[doubt.suggested] for doubt in found],
    "score": [float(doubt.probability[doubt.label]) for doubt in found],
    "split": [doubt.split for doubt in found],
    "reason": [confident_learning.describe(doubt, labels) for doubt in found],
  }


def define_flags() -> None:
  flags.DEFINE_string("model", None, "run, or exported folder", required=True)
  flags.DEFINE_string("data", "", "the pool: a file of texts, or a dataset")
  flags.DEFINE_integer("number", 50, "how many texts to choose")
  flags.DEFINE_string("output", "next.csv", "table to write, also .tsv .jsonl .parquet")
  flags.DEFINE_enum("strategy", "mixed", [*STRATEGIES], "how texts are chosen")
  flags.DEFINE_integer("seed", 0, "the same seed chooses the same texts", 0)
  flags.DEFINE_multi_string(
    "against", [], "file or dataset with texts that must not be proposed; repeatable"
  )
  column_flag.define(convert.COLUMNS, "; for --data")
  flags.DEFINE_string("doubts", "", "table of doubtful labels to write")


def main() -> int:
  values = flags.FLAGS
  notes = select(
    values.model,
    values.data,
    values.number,
    values.output,
    values.strategy,
    values.seed,
    values.against,
    column_flag.parse(values.columns, convert.COLUMNS),
    values.doubts,
  )
  for note in notes:
    print(note, file=sys.stderr if note.startswith("warning") else sys.stdout)
  return 0


if __name__ == "__main__":
  define_flags()
  cli.run(main)
