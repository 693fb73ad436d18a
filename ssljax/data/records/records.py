"""`Records` holds the rows of a dataset, each with a text and perhaps a label.

Rows are stored as Arrow columns, so a million rows need no Python objects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.data.records import files
from ssljax.data.records.schema import SCHEMA
from ssljax.runtime.atomic import atomic_path


@dataclass(frozen=True, eq=False)
class Records:
  """n rows of SCHEMA, with the file and line of each row for error messages."""

  table: pa.Table
  paths: tuple[Path, ...]
  path: np.ndarray  # i32 [n], index into `paths`
  line: np.ndarray  # i64 [n], 1-based

  def __len__(self) -> int:
    return self.table.num_rows

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Records) and self.table.equals(other.table)

  def column(self, name: str) -> list:
    """The column as Python objects; null becomes None."""
    return self.table[name].to_pylist()

  @property
  def label(self) -> np.ndarray:
    """i64 [n], -1 for an unlabelled row."""
    return self.table["label"].fill_null(-1).to_numpy()

  def location(self, row: int) -> str:
    """`file, line 3`."""
    return files.location(self.paths[self.path[row]], int(self.line[row]))

  def take(self, rows: np.ndarray) -> "Records":
    table = self.table.take(pa.array(rows))
    return Records(table, self.paths, self.path[rows], self.line[rows])


class Splits(NamedTuple):
  train: Records
  validation: Records
  test: Records
  labels: tuple[str, ...]  # class names by id
  notes: tuple[str, ...]  # assumptions and ignored columns, for the log


def from_rows(rows: Sequence[Mapping], path: Path = Path("rows")) -> Records:
  """Builds Records from dicts whose keys are in SCHEMA; absent columns hold null."""
  n = len(rows)
  table = pa.Table.from_pylist(list(rows), SCHEMA)
  return Records(table, (path,), np.zeros(n, np.int32), np.arange(1, n + 1))


def concat(parts: Sequence[Records]) -> Records:
  """All rows of all parts, in order."""
  paths: list[Path] = []
  path = []
  for part in parts:
    path.append(part.path + np.int32(len(paths)))
    paths += part.paths
  table = pa.concat_tables([part.table for part in parts])
  line = np.concatenate([part.line for part in parts])
  return Records(table, tuple(paths), np.concatenate(path), line)


def write_parquet(records: Records, path: str | Path) -> None:
  """Writes the rows to a Parquet file atomically."""
  with atomic_path(path) as temporary:
    pq.write_table(records.table, temporary, **files.PARQUET)
