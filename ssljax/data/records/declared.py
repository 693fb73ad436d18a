"""Class names that a Parquet file declares for a column of ids.

The `datasets` library stores the type ClassLabel, which holds the names, in the
metadata of the files that it writes. The Hub's Parquet files have it too.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ssljax.data.records import files
from ssljax.errors import UserError


def class_names(path: Path, column: str) -> tuple[str, ...]:
  """The names by id; () if the file declares none.

  Raises:
    UserError: a Parquet file that cannot be read.
  """
  if files.suffix(path) != ".parquet":
    return ()
  schema = files.open_parquet(path).schema_arrow
  index = schema.get_field_index(column)
  type_ = schema.field(index).type if index >= 0 else pa.null()
  if not (pa.types.is_integer(type_) or pa.types.is_floating(type_)):
    return ()  # the values are no ids
  try:
    metadata = json.loads((schema.metadata or {})[b"huggingface"])
    feature = metadata["info"]["features"][column]
    return tuple(map(str, feature["names"])) if "ClassLabel" in feature["_type"] else ()
  except (KeyError, TypeError, ValueError):  # other programs may use the key
    return ()


def add_names(
  path: Path,
  label_name: pa.ChunkedArray | None,
  label: pa.ChunkedArray,
  names: tuple[str, ...],
  first: int = 1,
) -> pa.ChunkedArray:
  """The column label_name, with declared names where there are any.

  Names such as "0" for class 0 are left out: they say nothing.

  Args:
    first: the number of the first row in the file, for errors.

  Raises:
    UserError: a row has another label_name than the one declared for its label. Case
      and white space don't count.
  """
  known = [None if name in ("", str(i)) else name for i, name in enumerate(names)]
  in_range = pc.if_else(pc.less(label, len(known)), label, None)
  found = pc.take(pa.array(known, pa.large_string()), in_range)
  if label_name is None:
    return found
  plain = lambda column: pc.utf8_lower(pc.utf8_trim_whitespace(column))
  differs = pc.fill_null(pc.not_equal(plain(label_name), plain(found)), False)
  if pc.any(differs).as_py():
    row = pc.index(differs, True).as_py()
    raise mismatch(
      files.location(path, first + row),
      label_name[row],
      "label",
      label[row],
      found[row],
    )
  return pc.coalesce(found, label_name)


def mismatch(
  location: str, own: object, column: str, label: object, name: object
) -> UserError:
  """The error for a label_name that differs from the declared name."""
  return UserError(
    f"{location}: label_name is {files.shorten(str(own))}, but the dataset declares "
    f"{column} {label} as {files.shorten(str(name))}; correct one of them, or leave "
    "both out with `python -m ssljax.data.prepare --columns=label_name=`"
  )
