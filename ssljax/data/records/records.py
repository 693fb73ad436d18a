"""The record: one text with its label, as every command of the pipeline reads it.

Rows are held as columns (Arrow), so that a million of them cost no Python objects.
`read_splits` is what `--config.data` means; `read_file` reads one file, and every
error names file, row and column.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssljax.data import split
from ssljax.data.records import checks, files, schema, split_files
from ssljax.data.records.schema import SCHEMA
from ssljax.errors import UserError

SHARES = (0.7, 0.1, 0.2)  # of a single file


@dataclass(frozen=True, eq=False)
class Records:
  """n rows of SCHEMA and where each stood, so that an error can name its place."""

  table: pa.Table
  paths: tuple[Path, ...]
  path: np.ndarray  # i32 [n], index into `paths`
  line: np.ndarray  # i64 [n], 1-based

  def __len__(self) -> int:
    return self.table.num_rows

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Records) and self.table.equals(other.table)

  def column(self, name: str) -> list:
    """A column as Python objects, None for null."""
    return self.table[name].to_pylist()

  @property
  def label(self) -> np.ndarray:
    """i64 [n], -1 for an unlabelled row."""
    return self.table["label"].fill_null(-1).to_numpy()

  def place(self, row: int) -> str:
    """`file, line 3`."""
    return files.place(self.paths[self.path[row]], int(self.line[row]))

  def take(self, rows: np.ndarray) -> "Records":
    table = self.table.take(pa.array(rows))
    return Records(table, self.paths, self.path[rows], self.line[rows])


class Splits(NamedTuple):
  train: Records
  validation: Records
  test: Records
  labels: tuple[str, ...]  # class names by id
  notes: tuple[str, ...]  # what was assumed or ignored, for the log
  files: Mapping[str, Sequence[Path]]  # by split


def read_file(path: str | Path, name: str = "") -> Records:
  """Reads JSONL, CSV (both also .gz) or Parquet; see `read_noted`."""
  return read_noted(path, name)[0]


def read_noted(path: str | Path, name: str = "") -> tuple[Records, tuple[str, ...]]:
  """Reads a file of records and says which of its columns were ignored.

  Args:
    path: the file.
    name: begins the ids of rows that have none, `<name>:<row>`; default its stem.

  Returns:
    Records with every column of SCHEMA (absent ones filled: `source` with the name,
    the others with null), and the names of the columns left out.

  Raises:
    UserError: anything that `files.rows` finds; a column of the wrong type; a row
      without text or with a negative label; a duplicate id. Names the first such row.
  """
  path = Path(path).expanduser()
  found, line, ignored = schema.read(path)
  records = _filled(path, name or files.stem(path), found, line, ignored)
  checks.rows(records)
  return records, tuple(ignored)


def read_texts(path: str | Path) -> Records:
  """Reads id, text, response and views of a file, whatever it has for labels.

  Raises:
    UserError: as `read_file`, except that ids may stand twice; no rows.
  """
  path = Path(path).expanduser()
  found, line, ignored = schema.read(path, ("id", "text", "response", "views"))
  records = _filled(path, files.stem(path), found, line, ignored)
  if not len(records):
    raise UserError(f"{path}: no rows; fill or replace the file")
  checks.texts(records)
  return records


def _filled(
  path: Path,
  name: str,
  found: dict[str, pa.ChunkedArray],
  line: np.ndarray,
  ignored: Sequence[str],
) -> Records:
  """Records with every column of SCHEMA; raises UserError if none is the text."""
  n = len(line)
  if "text" not in found and n:
    others = ", ".join(ignored) or "none"
    raise UserError(
      f"{files.place(path, int(line[0]))}: text: no such column (others: {others}); "
      "rename one, or map it with `python -m ssljax.data.prepare --columns=text=NAME`"
    )
  for field in SCHEMA:
    if field.name not in found:
      found[field.name] = pa.chunked_array([pa.nulls(n, field.type)])
  number = pa.array(np.arange(1, n + 1)).cast(pa.large_string())
  ids = pc.binary_join_element_wise(
    pa.scalar(name, pa.large_string()), number, pa.scalar(":", pa.large_string())
  )
  found["id"] = pc.coalesce(found["id"], ids)
  found["source"] = pc.coalesce(found["source"], pa.scalar(name, pa.large_string()))
  table = pa.table([found[field.name] for field in SCHEMA], SCHEMA)
  return Records(table, (path,), np.zeros(n, np.int32), line)


def from_rows(
  rows: Sequence[Mapping], path: Path = Path("rows"), line: np.ndarray | None = None
) -> Records:
  """Records of dicts that were made, not read: every key must be one of SCHEMA's."""
  table = pa.Table.from_pylist(
    [{name: row.get(name) for name in SCHEMA.names} for row in rows], SCHEMA
  )
  n = table.num_rows
  line = np.arange(1, n + 1) if line is None else line
  records = Records(table, (path,), np.zeros(n, np.int32), line)
  checks.rows(records)
  return records


def concat(parts: Sequence[Records]) -> Records:
  """All rows, in order."""
  start = np.cumsum([0] + [len(part.paths) for part in parts])
  return Records(
    pa.concat_tables([part.table for part in parts]),
    tuple(path for part in parts for path in part.paths),
    np.concatenate([p.path + np.int32(s) for p, s in zip(parts, start, strict=False)]),
    np.concatenate([part.line for part in parts]),
  )


def write_parquet(records: Records, path: str | Path) -> None:
  """Writes the rows; the file appears whole or not at all."""
  path = Path(path)
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
  os.close(handle)
  try:
    pq.write_table(records.table, temporary, compression="zstd")
    os.chmod(temporary, 0o644)  # mkstemp's files are private
    os.replace(temporary, path)
  finally:
    Path(temporary).unlink(missing_ok=True)


def read_splits(data: str | Path, seed: int = 0) -> Splits:
  """Reads what `--config.data` names.

  Args:
    data: a folder with sub-folders or files `train`, `validation` (`val`, `dev`) and
      `test`; files separated by commas, matched to splits by such a word in their
      names; or one file, split 70/10/20.
    seed: of that split.

  Raises:
    UserError: what `read_file` finds; a split that is missing, empty or given twice;
      a duplicate id; a row of validation or test without a label; labels that are not
      0..C-1 or have no one-to-one names.
  """
  found = split_files.find(str(data))
  notes = []
  splits = {}
  for name, paths in found.items():
    parts = []
    for path in paths:
      # Part files of two splits often have one name, which must not make one id.
      inside = name if path.parent.name in split_files.NAMES[name] else ""
      stem = files.stem(path)
      part, ignored = read_noted(path, f"{inside}/{stem}" if inside else stem)
      if ignored:
        notes.append(f"{path}: columns ignored: {', '.join(ignored)}")
      parts.append(part)
    splits[name] = concat(parts)
    if not len(splits[name]):
      listed = ", ".join(map(str, paths))
      raise UserError(
        f"{listed}: no rows in the {name} split; fill or replace the file"
      )
  if len(splits) == 1:
    whole = splits["train"]
    groups = split.group(whole.column("text"))
    parts = split.divide(groups, whole.label, SHARES, seed)
    splits = {
      name: whole.take(rows)
      for name, rows in zip(split_files.NAMES, parts, strict=True)
    }
    sizes = ", ".join(f"{name} {len(rows)}" for name, rows in splits.items())
    notes.append(
      f"{data}: one file, split 70/10/20 with seed {seed}, rows of the same text "
      f"together: {sizes}"
    )
    for name, part in splits.items():
      if not len(part):
        raise UserError(
          f"{data}: too few labelled rows to split ({len(whole)} rows leave the {name} "
          "split empty); give files named train, validation and test"
        )
  checks.ids(list(splits.values()))
  labels = checks.labels(splits)
  return Splits(**splits, labels=labels, notes=tuple(notes), files=found)


def read_labelled(data: str | Path, labels: Sequence[str] = ()) -> Records:
  """Reads a file, or the test split of a folder, to score a model on.

  Args:
    data: a file, or a folder as for `read_splits`; only its `test` must be there.
    labels: class names by id of the model; empty to check against none.

  Raises:
    UserError: what `read_file` finds; no rows; a row without a label or with one that
      the model does not know, by id or by name.
  """
  path = Path(data).expanduser()
  records = concat([read_file(each) for each in split_files.labelled_files(path)])
  if not len(records):
    raise UserError(f"{path}: no rows; fill or replace the file")
  checks.ids([records])
  checks.all_labelled(
    records,
    "evaluation needs one in every row (to score texts without labels there is "
    "`python -m ssljax.predict`)",
  )
  checks.known(records, len(labels) or 1 << 31, "the model")
  # A class without a name is called by its number, which no file needs to repeat.
  given = {i: name for i, name in enumerate(labels) if name != str(i)}
  checks.names_agree(records, given)
  return records
