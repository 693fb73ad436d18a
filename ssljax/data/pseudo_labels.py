"""Reads and writes files of pseudo-labels, and adds their texts to the labelled texts.

A file has one JSON object per unlabelled text, such as

  {"id": "train:17", "label": 1, "confidence": 0.93, "copies": 2}

`copies` says how often the text is among the labelled texts; 0 leaves it unlabelled.
Files from elsewhere need only `id` and `label`: `copies` is then 1.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ssljax.data.dedup import exact
from ssljax.data.records import files
from ssljax.data.records.records import Records, concat
from ssljax.data.records.schema import SCHEMA
from ssljax.errors import UserError
from ssljax.runtime.atomic import atomic_file


class PseudoLabels(NamedTuple):
  """The pseudo-labels of n texts."""

  id: list[str]
  label: np.ndarray  # i64 [n]
  copies: np.ndarray  # i64 [n], how often each text is drawn


class Expanded(NamedTuple):
  """The labelled and the unlabelled texts of a run that reads pseudo-labels."""

  labelled: Records
  unlabelled: Records
  note: str  # for the log


def write(path: Path, pseudo: PseudoLabels, confidence: np.ndarray) -> None:
  """Writes a file atomically; confidence, f64 [n], is for human readers."""
  with atomic_file(path) as file:
    for id_, label, value, copies in zip(
      pseudo.id, pseudo.label, confidence, pseudo.copies, strict=True
    ):
      row = {"id": id_, "label": int(label), "confidence": round(float(value), 6)}
      row["copies"] = int(copies)
      file.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())


def read(path: str | Path, classes: int) -> PseudoLabels:
  """Reads a file of pseudo-labels.

  Raises:
    UserError: the file can't be read; an id is missing or is there twice; a label isn't
      a class id; or a number of copies is below 0. The error names the line.
  """
  path = Path(path).expanduser()
  ids: dict[str, str] = {}  # id -> where it is
  rows = []
  for number, row in files.read_rows(path):
    where = files.location(path, number)
    id_, label, copies = row.get("id"), row.get("label"), row.get("copies", 1)
    id_ = str(id_) if type(id_) is int else id_  # as in data files
    if not isinstance(id_, str):
      raise UserError(
        f"{where}: id {files.shorten(id_)} is not a string; give the id "
        "of a text in train"
      )
    if id_ in ids:
      raise UserError(
        f"{where}: id {files.shorten(id_)} already occurs in {ids[id_]}; "
        "keep one of the lines"
      )
    if type(label) is not int or not 0 <= label < classes:
      raise UserError(
        f"{where}: label {files.shorten(label)} is not a class id; use "
        f"an integer from 0 to {classes - 1}"
      )
    if type(copies) is not int or copies < 0:
      raise UserError(
        f"{where}: copies is {files.shorten(copies)}; use an integer of 0 or more"
      )
    ids[id_] = where
    rows.append((label, copies))
  label, copies = np.array(rows, np.int64).reshape(-1, 2).T
  return PseudoLabels([*ids], label, copies)


def expand(
  path: str,
  labelled: Records,
  unlabelled: Records,
  names: Sequence[str],
  include_labelled: bool = False,
) -> Expanded:
  """Adds the drawn texts of a file to the labelled texts.

  A text with a true label keeps it.

  Args:
    path: the file.
    labelled: texts with their true labels.
    unlabelled: the pool.
    names: class names.
    include_labelled: keep the drawn texts in the pool as well.

  Raises:
    UserError: as for `read`; or an id belongs to no text of `labelled` or `unlabelled`.
  """
  own = set(labelled.column("id"))
  row_of = {id_: row for row, id_ in enumerate(unlabelled.column("id"))}

  def find(ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    rows = [-1 if id_ in own else row_of.get(id_, -1) for id_ in ids]
    return np.array(rows, np.int64), np.array([id_ in own for id_ in ids], bool)

  drawn = draw(path, find, names)
  added = _with_labels(unlabelled.take(drawn.rows), drawn.label)
  if not include_labelled:
    unlabelled = unlabelled.take(np.delete(np.arange(len(unlabelled)), drawn.rows))
  return Expanded(concat([labelled, added]), unlabelled, drawn.note)


class Drawn(NamedTuple):
  """The texts of a file of pseudo-labels that train, with their copies."""

  rows: np.ndarray  # i64 [n], rows of the unlabelled texts
  label: np.ndarray  # i64 [n]
  note: str  # for the log


def draw(
  path: str,
  find: Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]],
  names: Sequence[str],
) -> Drawn:
  """Reads which texts are drawn.

  Args:
    path: the file.
    find: maps ids to their rows among the unlabelled texts, i64, -1 for none; and to
      whether they are labelled texts, bool.
    names: class names.

  Raises:
    UserError: as for `read`; or `find` knows an id neither way.
  """
  pseudo = read(path, len(names))
  found, own = find(pseudo.id)
  unknown = np.flatnonzero((found < 0) & ~own)
  if unknown.size:
    raise UserError(
      f"{path}: id {files.shorten(pseudo.id[unknown[0]])} is not an unlabelled text of "
      "train; remove its line, or use the data and the seed that the file was made for"
    )
  used = (pseudo.copies > 0) & ~own
  rows, label, copies = found[used], pseudo.label[used], pseudo.copies[used]
  count = np.bincount(label, minlength=len(names))
  counts = ", ".join(f"{n} {name}" for n, name in zip(count, names, strict=True))
  note = f"{path}: {len(rows)} texts train with pseudo-labels ({counts})"
  if copies.sum() > len(rows):
    note += f", as {copies.sum()} labelled texts with their copies"
  if own.any():
    note += f"; {own.sum()} texts keep their own labels"
  return Drawn(rows.repeat(copies), label.repeat(copies), note)


def pool(labelled: Records, unlabelled: Records) -> Records:
  """The unlabelled texts that may get pseudo-labels.

  Labelled texts are left out (with `include_labelled`, they are unlabelled as well). So
  are texts that are equal to one, since they might get another label. No text of
  validation or test is in train (see `exact.resolve_overlap`).
  """
  own, index = set(labelled.column("id")), exact.index_digests([labelled])
  columns = (unlabelled.column(name) for name in ("id", "text", "response"))
  kept = [
    i
    for i, (id_, text, response) in enumerate(zip(*columns, strict=True))
    if id_ not in own and not exact.find_duplicate(index, text, response)
  ]
  return unlabelled.take(np.array(kept, np.int64))


def _with_labels(records: Records, label: np.ndarray) -> Records:
  """The records with other labels, and without names of labels."""
  table = records.table
  columns = {"label": pa.array(label), "label_name": pa.nulls(len(label))}
  for name, values in columns.items():
    field = SCHEMA.field(name)
    position = SCHEMA.get_field_index(name)
    table = table.set_column(position, field, values.cast(field.type))
  return replace(records, table=table)
