"""Writes a dataset folder from a named source, a Hub data set, or files.

  python -m ssljax.data.prepare --source=pyrit --output=FOLDER
  python -m ssljax.data.prepare --source=wildguardmix --task=response --output=FOLDER
  python -m ssljax.data.prepare --source=OWNER/NAME --output=FOLDER \\
    --columns=text=prompt,label=verdict --labels=unharmful,harmful
  python -m ssljax.data.prepare --source=train.csv,test.csv --output=FOLDER

The folder holds Parquet splits train/, validation/ and test/, and dataset.json. A
source that is for testing only has only test/, for `python -m ssljax.evaluate`.
"""

import collections
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from absl import flags

from ssljax import cli
from ssljax.assets import fetch
from ssljax.data.records import files, split_files
from ssljax.data.sources import convert as ingest
from ssljax.data.sources import hub, named, write
from ssljax.errors import UserError


def in_cache(data: str) -> str:
  """What `--config.data` names, with a named source prepared into the cache.

  Args:
    data: `name` or `name:task` of a source, for example `pyrit` or `aegis:response`;
      anything else, and a path of that name, comes back as it is.
  """
  name, _, task = data.partition(":")
  if name not in named.names() or Path(data).exists():
    return data
  output = fetch.folder() / "data" / f"{name}-{named.task_of(name, task)}"
  if not output.exists():
    try:
      prepare_source(name, output, task)
    except UserError:
      if not output.exists():  # else another process was quicker
        raise
  return str(output)


def prepare_source(
  name: str, output: str | Path, task: str = "", seed: int = 0
) -> dict:
  """Writes a named source as a dataset folder.

  Args:
    name: one of `sources.names()`.
    output: the folder, which must not exist.
    task: "prompt" or "response"; "" for the source's first.
    seed: of the validation split, where the source has none.

  Returns:
    What stands in dataset.json.

  Raises:
    UserError: a task without labels, an existing output, a source out of reach, or one
      whose columns have changed.
  """
  task = named.task_of(name, task)
  output = write.free(output)
  if name == named.PYRIT:
    return write.write(_pyrit(fetch.fetch(name)), output, named.PYRIT_SEED)
  source = named.SOURCES[name]
  dropped = collections.Counter()
  loaded: dict[str, Mapping[str, hub.Part]] = {}
  parts = {}
  for part, (config, theirs) in source.parts.items():
    if config not in loaded:
      loaded[config] = hub.load(source.hub, config)
    found = _part(source.hub, loaded[config], theirs)
    missing = [column for column in source.columns if column not in found.columns]
    if missing:
      raise UserError(
        f"{source.hub}: no column {missing[0]!r} any more (it has "
        f"{', '.join(found.columns)}); give "
        f"--source={source.hub} with --columns instead"
      )
    parts[part] = ingest.collect(
      _numbered(Path(f"{source.hub} {theirs}"), found.rows),
      lambda row, place, part=part: source.record(row, task, part),
      f"{name}-{part}",
      source.labels,
      dropped,
    )
  about = {
    "source": name,
    "hub": source.hub,
    "task": task,
    "licence": source.licence,
    "columns": list(source.columns),
  }
  raw = write.Raw(parts, source.labels, dropped, about, source.validation)
  return write.write(raw, output, seed)


def prepare_files(
  source: str,
  output: str | Path,
  columns: Mapping[str, str],
  labels: Sequence[str] = (),
  splits: Mapping[str, str] | None = None,
  config: str = "",
  seed: int = 0,
) -> dict:
  """Writes files, or any data set of the Hub, as a dataset folder.

  Args:
    source: a file, a folder, files separated by commas, or `owner/name` on the Hub.
    output: the folder, which must not exist.
    columns: our column -> the source's, for any of `ingest.MAPPED`.
    labels: class names by id; empty where the label column holds ids.
    splits: our split -> the Hub's; empty to go by names.
    config: of a Hub data set.
    seed: of the splits that the source does not have.

  Returns:
    What stands in dataset.json.
  """
  output = write.free(output)
  _among("--columns", columns, ingest.MAPPED)
  _among("--splits", splits or {}, split_files.NAMES)
  full = {name: columns.get(name, name) for name in ingest.MAPPED}
  if _is_path(source):
    found = {
      name: _file_rows(paths)
      for name, paths in split_files.find(source, whole=False).items()
    }
  else:
    loaded = hub.load(source, config)
    chosen = splits or split_files.by_name(loaded)
    if not chosen:
      raise UserError(
        f"{source}: none of its splits ({', '.join(loaded)}) has a known name; say "
        "which is which with --splits=train=NAME,test=NAME"
      )
    parts = {ours: _part(source, loaded, theirs) for ours, theirs in chosen.items()}
    found = {
      name: _numbered(Path(f"{source} {name}"), part.rows)
      for name, part in parts.items()
    }
    # Names that the data set itself gives its ids.
    labels = labels or next(iter(parts.values())).classes.get(full["label"], ())
  convert = ingest.converter(full, labels, list(columns))
  dropped, viewed = collections.Counter(), 0

  def counted(row: Mapping, place: str) -> dict | str:
    nonlocal viewed
    record = convert(row, place)
    viewed += not isinstance(record, str) and bool(row.get("views"))
    return record

  stem = re.sub(r"[^\w.-]+", "_", "data" if "," in source else Path(source).name)
  read = {
    name: ingest.collect(
      rows,
      counted if name == "train" else ingest.labelled(counted),
      f"{stem}-{name}",
      labels,
      dropped,
    )
    for name, rows in found.items()
  }
  about = {
    "source": source,
    "task": "response" if "response" in columns else "prompt",
    "licence": "that of the source",
    "columns": dict(columns),
  }
  notes = (f"views of {viewed} rows not taken over: make them with ssljax.augment",)
  raw = write.Raw(read, tuple(labels), dropped, about, notes=notes[: viewed > 0])
  return write.write(raw, output, seed)


def _pyrit(members: Path) -> write.Raw:
  dropped = collections.Counter()
  parts = {
    name: ingest.collect(
      _numbered(Path(f"pyrit {name}"), rows),
      lambda row, place: row,
      named.PYRIT,
      named.HARM,
      dropped,
    )
    for name, rows in named.pyrit(members).items()
  }
  about = {"source": "pyrit", "task": "response", "licence": named.PYRIT_LICENCE}
  return write.Raw(parts, named.HARM, dropped, about)


def _numbered(path: Path, rows) -> Iterator[ingest.Row]:
  return ((path, number, row) for number, row in enumerate(rows, 1))


def _file_rows(paths: Sequence[Path]) -> Iterator[ingest.Row]:
  for path in paths:
    for number, row in files.rows(path):
      yield path, number, row


def _part(name: str, loaded: Mapping[str, hub.Part], part: str) -> hub.Part:
  if part not in loaded:
    raise UserError(
      f"{name}: no split {part!r} (it has {', '.join(loaded)}); say which is which "
      "with --splits=train=NAME,test=NAME"
    )
  return loaded[part]


def _is_path(source: str) -> bool:
  if Path(source).expanduser().exists() or "," in source or files.suffix(Path(source)):
    return True
  if re.fullmatch(r"[\w.-]+/[\w.-]+", source):
    return False
  close = difflib.get_close_matches(source, named.names(), 1, 0.5)
  raise UserError(
    f"--source={source}: no such file or named source"
    f"{f'; did you mean {close[0]}?' if close else ''} (named: "
    f"{', '.join(named.names())}; a data set of the Hub is written owner/name)"
  )


def _among(flag: str, given: Mapping[str, str], known: Sequence[str]) -> None:
  for name in given:
    if name not in known:
      raise UserError(f"{flag}: {name!r} is unknown; it takes {', '.join(known)}")


def _pairs(flag: str, values: Sequence[str]) -> dict[str, str]:
  pairs = {}
  for value in values:
    name, equals, theirs = value.partition("=")
    if not (name and equals and theirs):
      raise UserError(f"--{flag}: {value!r} should be OURS=THEIRS, such as text=prompt")
    pairs[name.strip()] = theirs.strip()
  return pairs


def prepare(
  source: str,
  output: str,
  task: str = "",
  columns: Sequence[str] = (),
  labels: Sequence[str] = (),
  splits: Sequence[str] = (),
  config_name: str = "",
  seed: int = 0,
) -> dict:
  """What the command does, with its flags as arguments; returns dataset.json."""
  if source in named.names() and not Path(source).exists():
    own = {"columns": columns, "labels": labels, "splits": splits}
    for flag, value in {**own, "config_name": config_name}.items():
      if value:
        raise UserError(
          f"--{flag}: source {source} has its own; leave the flag out, or give the "
          "data set as owner/name"
        )
    return prepare_source(source, output, task, seed)
  if task:
    raise UserError(
      "--task is for named sources; here --columns=response=NAME makes a response task"
    )
  return prepare_files(
    source,
    output,
    _pairs("columns", columns),
    tuple(name.strip() for name in labels),
    _pairs("splits", splits),
    config_name,
    seed,
  )


def define_flags() -> None:
  """Defines the flags; not on import, because other commands import this file."""
  flags.DEFINE_string(
    "source", None, "named source, owner/name, or files", required=True
  )
  flags.DEFINE_string("output", None, "folder to write", required=True)
  flags.DEFINE_enum("task", "", ["", "prompt", "response"], "of a named source")
  flags.DEFINE_list("columns", [], "ours=theirs, such as text=prompt,label=verdict")
  flags.DEFINE_list("labels", [], "names of the classes, in the order of their ids")
  flags.DEFINE_list("splits", [], "ours=theirs, of a Hub data set: train=30k_train")
  flags.DEFINE_string("config_name", "", "configuration of a Hub data set")
  flags.DEFINE_integer("seed", 0, "of splits that the source does not have", 0)


def main() -> int:
  given = flags.FLAGS
  about = prepare(
    given.source,
    given.output,
    given.task,
    given.columns,
    given.labels,
    given.splits,
    given.config_name,
    given.seed,
  )
  for name, counts in about["rows"].items():
    print(f"{name}: " + ", ".join(f"{kind} {n}" for kind, n in counts.items()))
  for reason, count in about["dropped"].items():
    print(f"left out: {count} ({reason})")
  for note in about["notes"]:
    print(note)
  print(f"licence: {about['licence']}")
  print(f"written to {given.output}")
  return 0


if __name__ == "__main__":
  define_flags()
  cli.run(main)
