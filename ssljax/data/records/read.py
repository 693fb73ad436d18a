"""Reads files of records, and the splits that `--config.data` names.

Every error names the file, the row and the column.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssljax.data import split
from ssljax.data.records import checks, files, schema, split_files
from ssljax.data.records.records import Records, Splits, concat
from ssljax.data.records.schema import SCHEMA
from ssljax.errors import UserError

SHARES = (0.7, 0.1, 0.2)  # train, validation, test when there is a single file


def read_file(path: str | Path, name: str = "") -> Records:
  """Reads JSONL, CSV (both also .gz) or Parquet; see `read_with_ignored`."""
  return read_with_ignored(path, name)[0]


def read_with_ignored(
  path: str | Path, name: str = ""
) -> tuple[Records, tuple[str, ...]]:
  """Reads a file of records and returns the names of the columns it ignored.

  Args:
    path: the file.
    name: rows without an id get `<name>:<row>`; default: the file's stem.

  Returns:
    Records with every column of SCHEMA (absent columns are filled: `source` with
    `name`, the others with null), and the names of the ignored columns.

  Raises:
    UserError: an unreadable file (see `files.read_rows`); a column of the wrong type;
      a row without text or with a negative label; a duplicate id.
  """
  path = Path(path).expanduser()
  columns, line, ignored = schema.read_columns(path)
  records = _fill_columns(path, name or files.stem(path), columns, line, ignored)
  checks.check_rows(records)
  return records, tuple(ignored)


def read_texts(path: str | Path) -> Records:
  """Reads id, text, response and views of a file; its labels may be anything.

  Raises:
    UserError: as for `read_file`, except that duplicate ids are allowed; no rows.
  """
  path = Path(path).expanduser()
  columns, line, ignored = schema.read_columns(
    path, ("id", "text", "response", "views")
  )
  records = _fill_columns(path, files.stem(path), columns, line, ignored)
  if not len(records):
    raise UserError(f"{path}: the file has no rows; add rows or use another file")
  checks.check_texts(records)
  return records


def _fill_columns(
  path: Path,
  name: str,
  columns: dict[str, pa.ChunkedArray],
  line: np.ndarray,
  ignored: Sequence[str],
) -> Records:
  """Adds the absent columns of SCHEMA; raises UserError if there is no text column."""
  n = len(line)
  if "text" not in columns and n:
    others = ", ".join(ignored) or "none"
    raise UserError(
      f"{files.location(path, int(line[0]))}: no column 'text' (other "
      f"columns: {others}); rename one, or map it with "
      "`python -m ssljax.data.prepare --columns=text=NAME`"
    )
  for field in SCHEMA:
    if field.name not in columns:
      columns[field.name] = pa.chunked_array([pa.nulls(n, field.type)])
  number = pa.array(np.arange(1, n + 1)).cast(pa.large_string())
  ids = pc.binary_join_element_wise(
    pa.scalar(name, pa.large_string()), number, pa.scalar(":", pa.large_string())
  )
  columns["id"] = pc.coalesce(columns["id"], ids)
  source = pa.scalar(name, pa.large_string())
  columns["source"] = pc.coalesce(columns["source"], source)
  table = pa.table([columns[field.name] for field in SCHEMA], SCHEMA)
  return Records(table, (path,), np.zeros(n, np.int32), line)


def read_splits(data: str | Path, seed: int = 0) -> Splits:
  """Reads the data that `--config.data` names.

  Args:
    data: a folder with subfolders or files `train`, `validation` (`val`, `dev`) and
      `test`; files separated by commas, matched to splits by such a word in their
      names; or a single file, which is split 70/10/20.
    seed: for splitting a single file.

  Raises:
    UserError: as for `read_file`; a split that is missing, empty or given twice; a
      duplicate id; a row of validation or test without a label; labels that are not
      0..C-1 or whose names aren't one-to-one.
  """
  splits, notes = {}, []
  for name, paths in split_files.find_splits(str(data)).items():
    splits[name] = _read_split(name, paths, notes)
  if len(splits) == 1:
    splits = _divide_file(data, splits["train"], seed, notes)
  checks.check_unique_ids(list(splits.values()))
  labels = checks.check_labels(splits)
  return Splits(**splits, labels=labels, notes=tuple(notes))


def _read_split(name: str, paths: Sequence[Path], notes: list[str]) -> Records:
  parts = []
  for path in paths:
    # Part files of two splits often have the same name, and ids must still differ.
    prefix = f"{name}/" if path.parent.name in split_files.SPLITS[name] else ""
    part, ignored = read_with_ignored(path, prefix + files.stem(path))
    if ignored:
      notes.append(f"{path}: ignored columns: {', '.join(ignored)}")
    parts.append(part)
  records = concat(parts)
  if not len(records):
    listed = ", ".join(map(str, paths))
    raise UserError(
      f"{listed}: the {name} split has no rows; add rows or use another file"
    )
  return records


def _divide_file(
  data: str | Path, records: Records, seed: int, notes: list[str]
) -> dict[str, Records]:
  """Splits a single file 70/10/20."""
  groups = split.group_texts(records.column("text"))
  parts = split.divide(groups, records.label, SHARES, seed)
  splits = {
    name: records.take(rows)
    for name, rows in zip(split_files.SPLITS, parts, strict=True)
  }
  sizes = ", ".join(f"{name} {len(part)}" for name, part in splits.items())
  notes.append(
    f"{data}: split the file 70/10/20 with seed {seed}, keeping rows with the same "
    f"text together: {sizes}"
  )
  for name, part in splits.items():
    if not len(part):
      raise UserError(
        f"{data}: too few labelled rows to split: with {len(records)} rows, the {name} "
        "split is empty; add rows, or give files named train, validation and test"
      )
  return splits


def read_labelled(data: str | Path, labels: Sequence[str] = ()) -> Records:
  """Reads a file, or the test split of a folder, to score a model on.

  Args:
    data: a file, or a folder as for `read_splits` that has at least a test split.
    labels: the model's class names by id; empty skips this check.

  Raises:
    UserError: as for `read_file`; no rows; a row without a label, or with a label id or
      name that the model doesn't have.
  """
  path = Path(data).expanduser()
  records = concat([read_file(file) for file in split_files.find_test_files(path)])
  if not len(records):
    raise UserError(f"{path}: the file has no rows; add rows or use another file")
  checks.check_unique_ids([records])
  checks.check_all_labelled(
    records,
    "evaluation needs a label in every row (`python -m ssljax.predict` scores texts "
    "without labels)",
  )
  checks.check_label_range(records, len(labels) or 1 << 31, "the model")
  # An unnamed class is called by its number; files may give it any name.
  names = {i: name for i, name in enumerate(labels) if name != str(i)}
  checks.check_label_names(records, names)
  return records
