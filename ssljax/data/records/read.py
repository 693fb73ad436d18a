"""Reads files of records, and the splits that `--config.data` names.

Every error names the file, the row and the column.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence, Sized
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssljax.data import split
from ssljax.data.dedup import conflicts
from ssljax.data.records import (
  checks,
  declared,
  files,
  schema,
  selected,
  split_files,
)
from ssljax.data.records.records import Records, Splits, concat
from ssljax.data.records.schema import SCHEMA
from ssljax.errors import UserError

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}  # how a single file is split


def read_file(path: str | Path) -> Records:
  """Reads a JSONL, CSV (both also .gz) or Parquet file; see `read_with_ignored`."""
  return read_with_ignored(path)[0]


def read_with_ignored(
  path: str | Path, name: str = ""
) -> tuple[Records, tuple[str, ...]]:
  """Reads a file of records; also returns the names of the columns it ignored.

  Args:
    path: the file.
    name: rows without an id get the id `<name>:<row>`; default: the file's stem.

  Returns:
    Records with every column of SCHEMA, and the names of the ignored columns. Columns
    that the file doesn't have hold null, except `id` (see `name`) and `source`, which
    holds `name`.

  Raises:
    UserError: an unreadable file (see `files.read_rows`); a column of the wrong type;
      a row without text or with a negative label; a duplicate id.
  """
  records, ignored = _read_records(path, SCHEMA.names, name)
  checks.check_rows(records)
  return records, ignored


def read_texts(path: str | Path) -> Records:
  """Reads the ids, texts, responses and views of a file; ignores its labels.

  Raises:
    UserError: as for `read_with_ignored`, except that duplicate ids are allowed; or a
      file without rows.
  """
  records, _ = _read_records(path, ("id", "text", "response", "views"))
  check_not_empty(records, f"{records.paths[0]}: the file")
  checks.check_texts(records)
  return records


def read_chunks(
  path: str | Path, name: str, size: int
) -> Iterator[tuple[Records, tuple[str, ...]]]:
  """`read_with_ignored` in parts of `size` rows; only the last part may be smaller.

  A Parquet file is read part by part; any other file is read whole. The rows aren't
  checked (see `checks.check_rows`).
  """
  path = Path(path).expanduser()
  if files.check_format(path) != ".parquet":
    records, ignored = _read_records(path, SCHEMA.names, name)
    for begin in range(0, len(records), size):
      part = slice(begin, begin + size)
      table = records.table.slice(begin, size)
      path_, line = records.path[part], records.line[part]
      yield Records(table, records.paths, path_, line), ignored
    return
  file = files.open_parquet(path)
  present = file.schema_arrow.names
  names = [column for column in SCHEMA.names if column in present]
  ignored = tuple(column for column in present if column not in names)
  first = 1
  for table in _in_parts(path, file, names or present[:1], size):
    columns = {
      column: schema.convert(path, column, table[column], first) for column in names
    }
    line = np.arange(first, first + table.num_rows)
    yield _complete(path, columns, line, ignored, name, first), ignored
    first += table.num_rows


def _in_parts(
  path: Path, file: pq.ParquetFile, names: list[str], size: int
) -> Iterator[pa.Table]:
  """Yields tables of `size` rows: batches end where a row group ends."""
  pending: list[pa.RecordBatch] = []
  count = 0
  for batch in files.read_batches(path, file, size, columns=names):
    pending.append(batch)
    count += len(batch)
    while count >= size:
      table = pa.Table.from_batches(pending)
      yield table.slice(0, size)
      pending = table.slice(size).to_batches()
      count -= size
  if count:
    yield pa.Table.from_batches(pending)


def _read_records(
  path: str | Path, names: Sequence[str], prefix: str = ""
) -> tuple[Records, tuple[str, ...]]:
  """Reads the columns `names` and fills in the others.

  Also returns the names of the columns that it ignored.
  """
  path = Path(path).expanduser()
  columns, line, ignored = schema.read_columns(path, names)
  records = _complete(path, columns, line, ignored, prefix or files.stem(path))
  return records, tuple(ignored)


def _complete(
  path: Path,
  columns: dict[str, pa.ChunkedArray],
  line: np.ndarray,
  ignored: Sequence[str],
  prefix: str,
  first: int = 1,
) -> Records:
  """Records with every column of SCHEMA; `first` is the number of the first row."""
  n = len(line)
  if "text" not in columns and n:
    raise UserError(
      f"{files.location(path, int(line[0]))}: no column 'text' (other columns: "
      f"{', '.join(ignored) or 'none'}); rename one, or map it with "
      "`python -m ssljax.data.prepare --columns=text=NAME`"
    )
  if selected.CHECK in ignored:
    raise UserError(
      f"{path}: ssljax.select wrote this file for labelling by hand; add it to your "
      "dataset with `python -m ssljax.data.prepare --source=DATASET --add=FILE`"
    )
  if "label_name" in columns:
    is_blank = pc.equal(pc.utf8_trim_whitespace(columns["label_name"]), "")
    columns["label_name"] = pc.if_else(is_blank, None, columns["label_name"])
  if "label" in columns and (class_names := declared.class_names(path, "label")):
    own, label = columns.get("label_name"), columns["label"]
    columns["label_name"] = declared.add_names(path, own, label, class_names, first)
  for field in SCHEMA:
    if field.name not in columns:
      columns[field.name] = pa.chunked_array([pa.nulls(n, field.type)])
  numbers = range(first, first + n)
  ids = pa.array([f"{prefix}:{row}" for row in numbers], pa.large_string())
  columns["id"] = pc.coalesce(columns["id"], ids)
  columns["source"] = columns["source"].fill_null(prefix)
  table = pa.table([columns[name] for name in SCHEMA.names], SCHEMA)
  return Records(table, (path,), np.zeros(n, np.int32), line)


def check_not_empty(records: Sized, where: object) -> None:
  if not len(records):
    raise UserError(f"{where} has no rows; add rows or use another file")


def read_splits(data: str | Path, seed: int = 0) -> Splits:
  """Reads the data that `--config.data` names.

  Args:
    data: a folder with subfolders or files `train`, `validation` (`val`, `dev`) and
      `test`, or with shards of them such as `data/train-00000-of-00002.parquet`; files
      separated by commas, each with one of these words in its name; or a single file,
      which is split 70/10/20.
    seed: for splitting a single file.

  Raises:
    UserError: as for `read_with_ignored`; a split that is missing, empty or given
      twice; a duplicate id; a row of validation or test without a label; labels other
      than 0..C-1; label names that aren't one-to-one.
  """
  paths_of = split_files.find_splits(str(data))
  splits, notes = {}, split_files.describe_files(str(data), paths_of)
  for name, paths in paths_of.items():
    parts = []
    for path in paths:
      part, ignored = read_with_ignored(path, id_prefix(name, path))
      notes += describe_ignored(path, ignored)
      parts.append(part)
    splits[name] = concat(parts)
    check_not_empty(splits[name], f"{', '.join(map(str, paths))}: the {name} split")
  if len(splits) == 1:
    splits = split.divide_records(splits["train"], SHARES, seed)
    notes.append(describe_division(data, splits, seed))
  checks.check_unique_ids(list(splits.values()))
  labels = checks.check_labels(splits)
  notes += order_warnings(data, labels)
  if not split_files.is_prepared(data):  # `prepare` lists them once
    notes += conflicts.describe_conflicts(splits.values())
  return Splits(**splits, labels=labels, notes=tuple(notes))


def describe_division(data: str | Path, splits: Mapping[str, Sized], seed: int) -> str:
  """A note for the log on a single file that was divided; UserError if it's small."""
  for name, part in splits.items():
    if not len(part):
      raise UserError(
        f"{data}: too few labelled rows to split: the {name} split is empty; add "
        "rows, or give files named train, validation and test"
      )
  sizes = ", ".join(f"{name} {len(part)}" for name, part in splits.items())
  return (
    f"{data}: split the file 70/10/20 with seed {seed}, keeping rows with the same "
    f"text together: {sizes}"
  )


def order_warnings(data: str | Path, labels: Sequence[str]) -> list[str]:
  """A warning if two classes seem to have each other's names; [] otherwise."""
  swap = f"{shlex.quote(f'--source={data}')} --labels=0:1,1:0"
  return [*filter(None, [checks.class_order_warning(labels, swap)])]


def id_prefix(split_name: str, path: Path) -> str:
  """What precedes the number of a row in its id, if the file has no ids."""
  # Part files of two splits often have the same name, but ids must differ.
  inner = path.parent.name in split_files.SPLITS[split_name]
  return f"{split_name}/{files.stem(path)}" if inner else files.stem(path)


def describe_ignored(path: Path, ignored: Sequence[str]) -> list[str]:
  """A note for the log; [] if no columns were ignored."""
  return [f"{path}: ignored columns: {', '.join(ignored)}"] if ignored else []


def read_labelled(data: str | Path, labels: Sequence[str] = ()) -> Records:
  """Reads the rows on which a model is scored; see `read_labelled_with_notes`."""
  return read_labelled_with_notes(data, labels)[0]


def read_labelled_with_notes(
  data: str | Path, labels: Sequence[str] = ()
) -> tuple[Records, list[str]]:
  """Reads the rows on which a model is scored.

  Args:
    data: a file, or a folder as for `read_splits`; only its test split is read.
    labels: the model's class names by id; if empty, any label is accepted.

  Returns:
    (records, notes): the notes list class names that the model doesn't have.

  Raises:
    UserError: as for `read_with_ignored`; no rows; a row without a label, or with a
      label id that the model doesn't have; a class name that means another class of
      the model.
  """
  paths = split_files.find_test_files(Path(data).expanduser())
  return check_labelled(concat([read_file(file) for file in paths]), data, labels)


def check_labelled(
  records: Records, data: str | Path, labels: Sequence[str] = ()
) -> tuple[Records, list[str]]:
  """Checks rows on which a model is scored; see `read_labelled_with_notes`."""
  check_not_empty(records, f"{data}: the file")
  checks.check_unique_ids([records])
  checks.check_all_labelled(
    records,
    "evaluation needs a label in every row (`python -m ssljax.predict` scores texts "
    "without labels)",
  )
  checks.check_label_range(records, len(labels) or 1 << 31, "the model")
  # An unnamed class has its number as its name.
  named = {i: name for i, name in enumerate(labels) if name != str(i)}
  notes = checks.check_model_names(records, named)
  return records, notes + selected.describe(records, "metrics")
