"""Writes a dataset folder from a named source, a Hub dataset or files.

  python -m ssljax.data.prepare --source=pyrit --output=FOLDER
  python -m ssljax.data.prepare --source=wildguardmix --task=response --output=FOLDER
  python -m ssljax.data.prepare --source=OWNER/NAME --output=FOLDER \\
    --columns=text=prompt,label=verdict --labels=unharmful,harmful
  python -m ssljax.data.prepare --source=train.csv,test.csv --output=FOLDER
  python -m ssljax.data.prepare --source=mine.csv --shares=0.6,0.2,0.2 --output=FOLDER
  python -m ssljax.data.prepare --source=held-out.csv --as=test --output=FOLDER
  python -m ssljax.data.prepare --source=FOLDER --add=next.csv --output=NEW_FOLDER
  python -m ssljax.data.prepare --source=mine.csv,pool.csv,held-out.csv \\
    --as=train,train,test --output=FOLDER

Splits that the source lacks are taken from the labelled rows of train: 10% for
validation and 20% for test. With few labels, both get up to 25%, so that they have 20
texts of the rarest class. `--shares` changes this.

The folder holds Parquet splits train/, validation/ and test/, and dataset.json. If a
source is meant for testing only, the folder has only test/, for
`python -m ssljax.evaluate`.
"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from ssljax import cli
from ssljax.config import KEYS
from ssljax.data.records import column_flag
from ssljax.data.sources import build, convert, division, named
from ssljax.errors import UserError
from ssljax.runtime import lock


def define_flags() -> None:
  """Defines the flags in a function, so that importing this file defines none."""
  flags.DEFINE_string(
    "source", None, "named source, owner/name on the Hub, or files", required=True
  )
  flags.DEFINE_string("output", None, "folder to write", required=True)
  flags.DEFINE_enum("task", "", ["", "prompt", "response"], "task of a named source")
  column_flag.define(convert.COLUMNS)
  flags.DEFINE_list(
    "labels", [], "class names in the order of their ids, or VALUE:ID and VALUE:null"
  )
  flags.DEFINE_list(
    "as", [], "train, validation or test: the split of all rows; or one for each file"
  )
  flags.DEFINE_list(
    "shares",
    [],
    "TRAIN,VALIDATION,TEST, such as 0.6,0.2,0.2: how the labelled rows of a source "
    "without splits are divided; default 0.7,0.1,0.2, or less train with few labels",
  )
  flags.DEFINE_list(
    "add", [], "files of ssljax.select that you have labelled, to add to train"
  )
  flags.DEFINE_list("splits", [], "OURS=THEIRS on the Hub, such as train=30k_train")
  flags.DEFINE_string("config_name", "", "configuration of a Hub dataset")
  flags.DEFINE_integer("seed", 0, "seed for splits that the source doesn't have", 0)


def main() -> int:
  names = inspect.signature(prepare).parameters
  with lock.exclusive(Path(flags.FLAGS.output).expanduser(), "--output"):
    about = prepare(**{name: flags.FLAGS[name.rstrip("_")].value for name in names})
  for name, paths in about.get("files", {}).items():
    print(f"read {name} from {', '.join(paths)}")
  lines = list_rows(about["rows"]) + describe_budget(about["rows"].get("train", {}))
  print(*lines, *describe_classes(about), sep="\n")
  for reason, count in about["dropped"].items():
    print(f"dropped: {count} ({reason})")
  for note in about["notes"]:
    print(note)
  print(f"licence: {about['licence']}")
  print(f"wrote {flags.FLAGS.output}")
  return 0


def list_rows(rows: Mapping[str, Mapping[str, int]]) -> list[str]:
  """A table of the rows of each class in each split, and what it means for training.

  Args:
    rows: `rows` of dataset.json.
  """
  names = dict.fromkeys(name for counts in rows.values() for name in counts)
  order = [*(name for name in names if name != "all"), "all"]
  table = [["rows", *rows]]
  for name in order:
    table.append([name, *(str(counts.get(name, 0)) for counts in rows.values())])
  widths = [max(map(len, column)) for column in zip(*table, strict=True)]
  lines = [
    "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
    for row in table
  ]
  labelled = {
    split: counts["all"] - counts.get("unlabelled", 0) for split, counts in rows.items()
  }
  if "train" in labelled and len(labelled) > 1:
    uses = ", ".join(f"{count} for {split}" for split, count in labelled.items())
    lines.append(f"{sum(labelled.values())} labelled rows: {uses}")
  return lines


def describe_budget(counts: Mapping[str, int]) -> list[str]:
  """Says how to train on all labels if the default budget needs more.

  Args:
    counts: the rows of train by class, from dataset.json.
  """
  classes = {n: k for n, k in counts.items() if n not in ("all", "unlabelled")}
  budget = KEYS["labels"].default
  fits = min(classes.values(), default=0) * len(classes) >= budget
  if fits or not all(classes.values()) or not counts.get("unlabelled"):
    return []
  return [
    f"train on all {sum(classes.values())} labels with --config.labels=0; there are "
    f"too few for the default, {budget} balanced ones"
  ]


def describe_classes(about: Mapping) -> list[str]:
  """Says which of two classes counts as harmful, given the content of dataset.json."""
  names = about["labels"]
  if len(names) != 2:
    return []
  split, rows = next(iter(about["rows"].items()))
  count, labelled = rows[names[1]], rows[names[0]] + rows[names[1]]
  line = (
    f"class 1 counts as harmful: {names[1]!r}, {count} of {labelled} labelled rows of "
    f"{split}"
  )
  return [line]


def prepare(
  source: str,
  output: str,
  task: str = "",
  columns: Sequence[str] = (),
  labels: Sequence[str] = (),
  splits: Sequence[str] = (),
  config_name: str = "",
  seed: int = 0,
  as_: str | Sequence[str] = (),
  shares: Sequence[str] = (),
  add: Sequence[str] = (),
) -> dict:
  """Writes a dataset folder as the flags say; returns the content of dataset.json."""
  if source in named.source_names() and not Path(source).exists():
    if columns or labels or splits or config_name or as_ or shares or add:
      raise UserError(
        "--columns, --labels, --splits, --config_name, --as, --shares and --add cannot "
        f"be used with the named source {source}; remove them, or give the dataset as "
        "owner/name or as a folder"
      )
    return build.build_named(source, output, task, seed)
  if task:
    raise UserError(
      "--task is for named sources; use --columns=response=NAME to classify responses"
    )
  return build.build_from_files(
    source,
    output,
    column_flag.parse(columns, convert.COLUMNS),
    tuple(name.strip() for name in labels),
    column_flag.parse_pairs("splits", splits),
    config_name,
    seed,
    as_,
    division.parse_shares(shares),
    add,
  )


if __name__ == "__main__":
  define_flags()
  cli.run(main)
