"""Finds texts of train that are duplicates or near-duplicates of test data.

  python -m ssljax.data.contamination --data=FOLDER
  python -m ssljax.data.contamination --data=FOLDER --against=other_test.csv \\
    --columns=text=prompt --output=overlaps.csv

Compares all rows of train and their stored views with the validation and test splits of
the same data, and with each file of `--against`, whose columns `--columns` can map. If
both texts have a response, prompt and response are compared together; otherwise, only
the prompts are compared. Exact duplicates differ at most in case, white space, Unicode
form (NFKC) or invisible characters. The character 5-grams of near-duplicates have a
Jaccard similarity of at least `--threshold`.

The exit code is 0 if there is no overlap and 1 if there is one. If the comparison
failed, for whatever reason, it is 2 or higher.
"""

# ruff: noqa: E402  (some imports come after the handling of failed imports)

import contextlib
import csv
import io
import itertools
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path

FOUND, FAILED = 1, 3  # exit codes


def _fail(*error) -> None:
  """Ends the process; called for an exception that nobody has caught."""
  with contextlib.suppress(Exception):
    traceback.print_exception(*error)
  os._exit(FAILED)


if __name__ == "__main__":  # before the imports, which may fail
  sys.excepthook = _fail  # otherwise Python would exit with 1, as if it had found some

from absl import flags

from ssljax import cli
from ssljax.data.dedup.near import Overlap, find_overlaps
from ssljax.data.records import column_flag, split_files
from ssljax.data.records.delimited import SEPARATORS
from ssljax.data.records.read import read_splits, read_texts
from ssljax.data.records.records import Records, concat
from ssljax.data.sources import build, mapped
from ssljax.errors import MISTAKE, RunError, UserError
from ssljax.runtime import lock
from ssljax.runtime.atomic import atomic_file, cannot_write
from ssljax.runtime.json_files import write_json

# Other commands define the same flags, and one process may import several commands.
flags.DEFINE_string(
  "data", None, "folder, files or named source", required=True, allow_override=True
)
flags.DEFINE_multi_string("against", [], "file of texts to compare with; repeatable")
flags.DEFINE_float("threshold", 0.6, "minimum similarity of near-duplicates")
flags.DEFINE_string(
  "output", "", "JSON, CSV or TSV file for all overlaps", allow_override=True
)
column_flag.define(mapped.TEXTS, "; for the files of --against")

SHOWN = 5  # pairs of ids printed for each kind of overlap
EMPTY = b"[\n]\n"  # unlike what other programs write, so that it can be told apart
OLD_EMPTY = b"[]\n"  # of version 0.1.0


def main() -> int:
  flag = flags.FLAGS
  try:
    columns = column_flag.parse(flag.columns, mapped.TEXTS)
    if columns and not flag.against:
      raise UserError(
        "--columns is for the files of --against; prepare --data with "
        "`python -m ssljax.data.prepare` if its columns have other names"
      )
    overlaps = report_overlaps(
      flag.data, flag.against, flag.threshold, flag.output, columns
    )
    print(end="", flush=True)  # as `cli` does, whose exit code would be FOUND
  except (BrokenPipeError, PermissionError):
    raise
  except UserError as error:
    error.code = MISTAKE
    raise
  except OSError as error:
    raise UserError(f"{error}; free some space or check the file") from error
  except Exception:
    traceback.print_exc()
    return MISTAKE
  return FOUND if overlaps else 0


def report_overlaps(
  data: str,
  against: list[str],
  threshold: float,
  output: str = "",
  columns: Mapping[str, str] | None = None,
) -> list[Overlap]:
  """Finds, prints and returns the overlaps; the arguments are the flags.

  Mistakes in the arguments or files raise UserError before anything is compared.
  """
  if not 0.1 <= threshold < 1:
    raise UserError(f"--threshold={threshold}: it must be at least 0.1 and below 1")
  if output:
    _check_output(Path(output))
  with lock.exclusive(output, "--output") if output else contextlib.nullcontext():
    train, others = _read(data, against, columns or {})
    overlaps = find_overlaps(train, others, threshold)
    _print_summary(len(train), others, overlaps)
    if output:
      _write(Path(output), overlaps)
      print(f"wrote all {len(overlaps)} overlaps to {output}")
  return overlaps


def _read(
  data: str, against: list[str], columns: Mapping[str, str]
) -> tuple[Records, dict[str, Records]]:
  """Reads (train, other sets by name); uses labels only to split a single file."""
  data = build.resolve_data(data)
  paths_of = split_files.find_splits(data, complete=False)
  if list(paths_of) == ["train"] and not against:
    splits = read_splits(data)  # a single file, which a run would split
    return splits.train, {"validation": splits.validation, "test": splits.test}
  if "train" not in paths_of:
    raise UserError(f"{data}: no train split to compare; give data that has one")
  parts = {
    name: concat([read_texts(path) for path in paths])
    for name, paths in paths_of.items()
  }
  train = parts.pop("train")
  return train, parts | {path: mapped.read_texts(path, columns) for path in against}


def _check_output(output: Path) -> None:
  """Raises UserError if the output cannot be written, or is a file of another kind."""
  suffixes = (".json", *SEPARATORS)
  if output.suffix not in suffixes or output.name == "dataset.json" or output.is_dir():
    raise UserError(
      f"--output={output} cannot be used; give a new file name that ends in .json, "
      ".csv or .tsv"
    )
  try:
    output.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=output.parent).close()
  except OSError as error:
    raise cannot_write(f"--output={output}", error, "give another file") from None
  if output.exists() and not _is_ours(output):
    raise UserError(
      f"--output={output} exists and isn't a list of overlaps; give another file"
    )


def _write(output: Path, overlaps: list[Overlap]) -> None:
  if output.suffix in SEPARATORS:
    table = io.StringIO()
    separator = SEPARATORS[output.suffix]
    writer = csv.writer(table, delimiter=separator, lineterminator="\n")
    writer.writerows([Overlap._fields, *overlaps])
    with atomic_file(output) as file:
      file.write(table.getvalue().encode())
  elif overlaps:
    write_json(output, [overlap._asdict() for overlap in overlaps])
  else:
    with atomic_file(output) as file:
      file.write(EMPTY)


def _is_ours(file: Path) -> bool:
  content = file.read_bytes()
  if file.suffix in SEPARATORS:
    header = SEPARATORS[file.suffix].join(Overlap._fields)
    return content.splitlines()[:1] == [header.encode()]
  try:
    rows = json.loads(content)
  except ValueError:
    return False
  if not rows:
    return content in (EMPTY, OLD_EMPTY)
  return isinstance(rows, list) and all(
    isinstance(row, dict) and row.keys() == set(Overlap._fields) for row in rows
  )


def _print_summary(
  rows: int, others: dict[str, Records], overlaps: list[Overlap]
) -> None:
  for name, other in others.items():
    print(f"train ({rows} rows) against {name} ({len(other)} rows):")
    for views, exact in itertools.product((False, True), (True, False)):
      key = (name, views, exact)
      pairs = [
        f"{o.id} = {o.other_id}"
        for o in overlaps
        if (o.other, bool(o.view), o.exact) == key
      ]
      kind = f"{'exact' if exact else 'near'} {'views' if views else 'texts'}"
      shown = ": " + ", ".join(pairs[:SHOWN]) if pairs else ""
      print(f"  {kind}: {len(pairs)}{shown}")


if __name__ == "__main__":
  RunError.code = MISTAKE  # also if --help can't be printed
  cli.run(main)
