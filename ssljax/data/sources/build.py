"""Builds dataset folders from named sources, Hub datasets and files."""

import collections
import contextlib
import difflib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ssljax.assets import fetch
from ssljax.data import split
from ssljax.data.records import declared, files, split_files
from ssljax.data.records.read import SHARES
from ssljax.data.sources import added, convert, hub, named, write
from ssljax.data.sources.labels import LabelColumn, are_other_numbers, parse_labels
from ssljax.errors import UserError
from ssljax.runtime import lock


def resolve_data(data: str) -> str:
  """Returns the path that `--config.data` stands for.

  A named source is built in the cache, unless it is already there.

  Args:
    data: `name` or `name:task` of a named source, such as `pyrit` or `aegis:response`.
      Anything else is returned unchanged, as is the name of an existing path.
  """
  name, _, task = data.partition(":")
  if name not in named.source_names() or Path(data).exists():
    return data
  output = fetch.cache_folder() / "data" / f"{name}-{named.check_task(name, task)}"
  if not output.exists():
    try:
      with lock.shared(output.parent):
        build_named(name, output, task)
    except UserError:
      if not output.exists():  # if it exists, another process was faster
        raise
  return str(output)


def build_named(name: str, output: str | Path, task: str = "", seed: int = 0) -> dict:
  """Writes a named source as a dataset folder and returns the content of dataset.json.

  Args:
    name: one of `named.source_names()`.
    output: the folder, which must not exist.
    task: "prompt" or "response"; "" is the source's default.
    seed: for drawing a validation split, if the source has none.

  Raises:
    UserError: a task without labels, an existing output, or a source that cannot be
      downloaded or whose columns have changed.
  """
  task = named.check_task(name, task)
  output = write.check_is_new(output)
  dropped, splits = collections.Counter(), {}
  if name == named.PYRIT:
    rows = _numbered("pyrit", named.read_pyrit(fetch.fetch(named.PYRIT)))
    records = convert.collect_records(
      rows, lambda row, location: row, named.PYRIT, dropped
    )
    splits = split.divide_records(records, SHARES, seed=0)  # same splits for everyone
    licence = "MIT, of the PyRIT package (Microsoft)"
    about = {"source": "pyrit", "task": "response", "licence": licence}
    names = dict(enumerate(named.HARM))
    raw = write.RawDataset(splits, names, dropped, about)
    return write.write_dataset(raw, output, seed=0)
  source = named.SOURCES[name]
  configs = dict.fromkeys(config for config, _ in source.splits.values())
  loaded = {config: hub.load_hub_dataset(source.hub, config) for config in configs}
  for part, (config, hub_name) in source.splits.items():
    hub_split = _hub_split(source.hub, loaded[config], hub_name)
    for column in source.columns:
      if column not in hub_split.columns:
        raise UserError(
          f"{source.hub}: column {column!r} no longer exists (the columns are "
          f"{', '.join(hub_split.columns)}); use --source={source.hub} with --columns "
          "instead"
        )
    named.check_class_names(source, hub_split.classes)
    splits[part] = convert.collect_records(
      _numbered(f"{source.hub} {hub_name}", hub_split.rows),
      lambda row, location, part=part: source.record(row, task, part),
      f"{name}-{part}",
      dropped,
    )
  about = {
    "source": name,
    "hub": source.hub,
    "task": task,
    "licence": source.licence,
    "columns": list(source.columns),
  }
  names = dict(enumerate(source.labels))
  shares = SHARES | ({"validation": source.validation} if "test" in splits else {})
  raw = write.RawDataset(splits, names, dropped, about, shares)
  return write.write_dataset(raw, output, seed)


def build_from_files(
  source: str,
  output: str | Path,
  columns: Mapping[str, str],
  labels: Sequence[str] = (),
  splits: Mapping[str, str] | None = None,
  config: str = "",
  seed: int = 0,
  as_: str | Sequence[str] = (),
  shares: Mapping[str, float] | None = None,
  add: Sequence[str] = (),
) -> dict:
  """Writes a dataset folder from files or a Hub dataset.

  Returns the content of dataset.json.

  Args:
    source: a file, a folder, files separated by commas, or `owner/name` on the Hub.
    output: the folder, which must not exist.
    columns: maps any of `convert.COLUMNS` to the name of that column in the source, or
      to "" to leave it out. Without `label_name`, declared class names are left out,
      too.
    labels: class names by id, or VALUE:ID for each value; see `parse_labels`. Empty if
      the label column holds ids.
    splits: maps our splits to the Hub's; by default, splits are matched by name.
    config: configuration of a Hub dataset.
    seed: for drawing the splits that the source doesn't have.
    as_: the split that all rows of the files become, whatever their names, or one split
      for each file. A single split stays whole, unless `shares` divide it.
    shares: shares of train, validation and test, if the source has no splits; by
      default, those of `division.choose_shares`.
    add: files of newly labelled rows, see `added.add_labelled`.
  """
  output = write.check_is_new(output)
  as_ = [as_] if as_ and isinstance(as_, str) else list(as_)
  for flag, names, accepted in (
    ("--columns", columns, convert.COLUMNS),
    ("--splits", splits or {}, split_files.SPLITS),
  ):
    for name in names:
      if name not in accepted:
        raise UserError(f"{flag}: unknown name {name!r}; use {', '.join(accepted)}")
  if columns.get("text") == "":
    raise UserError("--columns=text=: the text cannot be left out; name its column")
  column = columns.get("label", "label")
  class_names: dict[str, tuple[str, ...]] = {}  # of a file or split that declares them
  notes: list[str] = []
  if _is_path(source):
    if as_:
      paths_of = _assign_files(split_files.find_files(source), as_)
    else:
      paths_of = split_files.find_splits(source, complete=False)
    notes = split_files.describe_files(source, paths_of)
    read = {name: list(map(str, paths)) for name, paths in paths_of.items()}
    rows_of = {
      name: ((path, *row) for path in paths for row in files.read_rows(path))
      for name, paths in paths_of.items()
    }
    for path in itertools.chain.from_iterable(paths_of.values()):
      class_names[str(path)] = declared.class_names(path, column)
  elif as_:
    raise UserError(
      f"--as={','.join(as_)} is for files; say what a split on the Hub is for with "
      f"--splits={as_[0]}=NAME"
    )
  else:
    loaded = hub.load_hub_dataset(source, config)
    name_of = splits or {
      part: name
      for part, words in split_files.SPLITS.items()
      for name in loaded
      if name.lower() in words
    }
    if not name_of:
      raise UserError(
        f"{source}: cannot tell what its splits ({', '.join(loaded)}) are for; map "
        "them with --splits=train=NAME,test=NAME"
      )
    rows_of = {
      part: _numbered(f"{source} {part}", _hub_split(source, loaded, name).rows)
      for part, name in name_of.items()
    }
    class_names = {
      f"{source} {name}": loaded[name].classes.get(column, ())
      for name in name_of.values()
      if column in loaded[name].columns
    }
    read = {part: [f"{source} {name}"] for part, name in name_of.items()}
  if shares and list(rows_of) != ["train"]:
    raise UserError(
      f"--shares is for a source without splits, but {source} has "
      f"{', '.join(rows_of)}; leave it out"
    )
  names_by_id = _same_names(column, class_names)
  if columns.get("label_name") == "":
    names_by_id = ("",) * len(names_by_id)  # the values are still ids
  parsed = parse_labels(labels, names_by_id)
  label_column = LabelColumn(column, parsed)
  dropped, with_views, with_names = collections.Counter(), 0, 0
  row_names: Mapping = {}  # the columns of the first row
  has_labels = not column or bool(add)

  def count_views(row: Mapping, location: str) -> dict | str:
    nonlocal with_views, with_names, row_names, has_labels
    has_labels |= column in row
    row_names = row_names or row
    record = convert.convert_columns(row, location, columns, label_column)
    with_views += not isinstance(record, str) and bool(row.get("views"))
    with_names += bool(row.get("label_name"))
    return record

  stem = re.sub(r"[^\w.-]+", "_", "data" if "," in source else Path(source).name)
  records = {
    name: convert.collect_records(
      rows, count_views, f"{stem}-{name}", dropped, name != "train"
    )
    for name, rows in rows_of.items()
  }
  if row_names and not has_labels:
    listed = ", ".join(map(str, row_names))
    raise UserError(
      f"{source}: no column {column!r} (the rows have {listed}); "
      "give the right one with --columns=label=NAME"
    )
  if add:
    paths = [path for name in add for path in split_files.find_files(name)]
    records, more = added.add_labelled(records, paths, label_column.names())
    notes += more
  about = {
    "source": source,
    **({"added": list(add)} if add else {}),
    "task": "response" if columns.get("response") else "prompt",
    "licence": _licence(source, "; for added texts, see their source" if add else ""),
    "columns": dict(columns),
    "files": read,
  }
  if with_views:
    notes.append(
      f"dropped the views of {with_views} rows: create views with ssljax.augment"
    )
  if (
    with_names
    and column not in ("", "label", "label_name")
    and "label_name" not in columns
  ):
    notes.append(
      f"the column label_name of {with_names} rows isn't read, since --columns maps "
      f"label to {column!r}; if it has the class names of {column!r}, add label_name="
      "label_name to --columns"
    )
  if label_column.names_only:
    notes.append(
      f"{label_column.names_only} rows have a label_name and no label: they are "
      "unlabelled; to use their names, add --columns=label=label_name and --labels"
    )
  if renamed := label_column.renamed():
    pairs = [f"{old!r} to {new!r}" for old, new in renamed.items()]
    more = ", …" if len(pairs) > 5 else ""
    notes.append(f"--labels renames {', '.join(pairs[:5])}{more}")
  whole = bool(as_) and len(records) == 1 and not shares
  swap = label_column.swapped() if len(parsed.names) in (0, 2) else ""
  raw = write.RawDataset(
    records, label_column.names(), dropped, about, shares, whole, notes, swap
  )
  return write.write_dataset(raw, output, seed)


def _licence(source: str, more: str) -> str:
  """The licence of a prepared dataset, and `more`; otherwise, where to look for it."""
  with contextlib.suppress(OSError, ValueError, AttributeError):
    about = Path(source, "dataset.json").expanduser().read_text(encoding="utf-8")
    if isinstance(licence := json.loads(about).get("licence"), str):
      return licence.removesuffix(more) + more
  return "see the source"


def _assign_files(paths: Sequence[Path], as_: Sequence[str]) -> dict[str, list[Path]]:
  """The files of each split, as --as says."""
  for name in as_:
    if name not in split_files.SPLITS:
      raise UserError(
        f"--as={','.join(as_)}: unknown split {name!r}; use "
        f"{', '.join(split_files.SPLITS)}"
      )
  if len(as_) not in (1, len(paths)):
    raise UserError(
      f"--as={','.join(as_)}: give one split, or one for each of the {len(paths)} files"
    )
  splits = as_ if len(as_) > 1 else [as_[0]] * len(paths)
  pairs = list(zip(splits, paths, strict=True))
  return {
    name: [path for other, path in pairs if other == name]
    for name in split_files.SPLITS
    if name in splits
  }


def _same_names(
  column: str, class_names: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
  """The names that all files or splits declare for the ids of a column."""
  places: dict[tuple[str, ...], str] = {}
  for place, names in class_names.items():
    places.setdefault(names, place)
  undeclared = places.pop((), None)
  if len(places) > 1:
    listed = " and ".join(f"{list(names)} in {p}" for names, p in places.items())
    raise UserError(
      f"{column} has other class names in one place than in another ({listed}); "
      "prepare them one by one (--splits chooses splits of a Hub dataset)"
    )
  names = next(iter(places), ())
  if undeclared and are_other_numbers(names):
    raise UserError(
      f"{undeclared}: a {column} may be a class name or an id, since {places[names]} "
      f"declares the names {', '.join(names)}; prepare the files one by one"
    )
  return names


def _numbered(name: str, rows: Iterable[Mapping]) -> Iterator[convert.SourceRow]:
  return ((Path(name), number, row) for number, row in enumerate(rows, 1))


def _hub_split(
  source: str, loaded: Mapping[str, hub.HubSplit], name: str
) -> hub.HubSplit:
  if name not in loaded:
    raise UserError(
      f"{source}: no split {name!r} (the splits are {', '.join(loaded)}); map them "
      "with --splits=train=NAME,test=NAME"
    )
  return loaded[name]


def _is_path(source: str) -> bool:
  """Whether a source is a path, not a Hub dataset; UserError if it is neither."""
  if Path(source).expanduser().exists() or "," in source or files.suffix(Path(source)):
    return True
  if re.fullmatch(r"[\w.-]+/[\w.-]+", source):
    return False
  nearest = difflib.get_close_matches(source, named.source_names(), 1, 0.5)
  raise UserError(
    f"--source={source}: no such file or named source"
    f"{f'; did you mean {nearest[0]}?' if nearest else ''} (named sources: "
    f"{', '.join(named.source_names())}; write a Hub dataset as owner/name)"
  )
