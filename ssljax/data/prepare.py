"""Writes a dataset folder from a named source, a Hub dataset or files.

  python -m ssljax.data.prepare --source=pyrit --output=FOLDER
  python -m ssljax.data.prepare --source=wildguardmix --task=response --output=FOLDER
  python -m ssljax.data.prepare --source=OWNER/NAME --output=FOLDER \\
    --columns=text=prompt,label=verdict --labels=unharmful,harmful
  python -m ssljax.data.prepare --source=train.csv,test.csv --output=FOLDER
  python -m ssljax.data.prepare --source=held-out.csv --as=test --output=FOLDER

The folder holds Parquet splits train/, validation/ and test/, and dataset.json. If a
source is meant for testing only, the folder has only test/, for
`python -m ssljax.evaluate`.
"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from ssljax import cli
from ssljax.data.records import column_flag
from ssljax.data.sources import build, convert, named
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
  flags.DEFINE_enum(
    "as", "", ["", "test"], "test: all rows of the files are the test split"
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
  for name, counts in about["rows"].items():
    print(f"{name}: " + ", ".join(f"{kind} {n}" for kind, n in counts.items()))
  for line in describe_classes(about):
    print(line)
  for reason, count in about["dropped"].items():
    print(f"dropped: {count} ({reason})")
  for note in about["notes"]:
    print(note)
  print(f"licence: {about['licence']}")
  print(f"wrote {flags.FLAGS.output}")
  return 0


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
  as_: str = "",
) -> dict:
  """Writes a dataset folder as the flags say; returns the content of dataset.json."""
  if source in named.source_names() and not Path(source).exists():
    if columns or labels or splits or config_name or as_:
      raise UserError(
        "--columns, --labels, --splits, --config_name and --as cannot be used with the "
        f"named source {source}; remove them, or give the dataset as owner/name"
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
  )


if __name__ == "__main__":
  define_flags()
  cli.run(main)
