"""Checks that labelled texts were used for nothing else, as a promise demands."""

from collections.abc import Iterable, Iterator

from ssljax.data.dedup import exact
from ssljax.data.dedup.normalize import text_digest
from ssljax.data.records import read, selected, split_files
from ssljax.data.records.records import Records
from ssljax.data.sources.build import resolve_data
from ssljax.errors import UserError
from ssljax.evals.runs import Run

CHUNK = 50_000  # rows of train in memory
SHOWN = 3  # ids in an error
UNKNOWN = (
  "an exported folder doesn't contain its training texts, so nothing checks whether "
  "these are among them"
)


def check(rows: Records, run: Run | None) -> list[str]:
  """Refuses texts that chose the model, or that the model has chosen.

  `dedup.exact` says when two texts are the same.

  Args:
    run: the run of the model; None for an exported folder.

  Returns:
    Notes for the log: what couldn't be checked, and which texts count twice.

  Raises:
    UserError: some of the texts trained the run, chose its checkpoint or its
      thresholds, or were chosen by `ssljax.select`.
  """
  _check_random(rows)
  pairs = list(zip(rows.column("text"), rows.column("response"), strict=True))
  notes = []
  if again := len(rows) - len({text_digest(*pair) for pair in pairs}):
    notes.append(
      f"{again} of {len(rows)} texts repeat another one: promises hold only if texts "
      "repeat as often later on"
    )
  if run is None:
    return [*notes, UNKNOWN]
  index = exact.index_digests([rows])

  def find(texts: Iterable[tuple[str, str | None]]) -> list[int]:
    found = (exact.find_duplicate(index, text, response) for text, response in texts)
    return sorted({row for _, row in filter(None, found)})

  def find_in(split: str) -> list[int]:
    if not (run.workdir / "predictions" / f"{split}.parquet").exists():
      return []
    used = run.predictions(split)
    return find(zip(used.text, used.response, strict=True))

  _refuse(rows, find_in("validation"), "chose the run's checkpoint")
  _refuse(rows, find_in("calibration"), "chose the run's thresholds")
  try:
    parts = _train_parts(run.config["data"], run.config["seed"])
    items = (item for part in parts for item in exact.iterate_texts(part))
    trained = find(item[2:] for item in items if item[1] is None)
  except UserError as error:
    reason = str(error).partition(";")[0]
    notes.append(
      f"the run's training texts can't be read ({reason}), so nothing checks whether "
      "these are among them"
    )
  else:
    _refuse(rows, trained, "are among the run's training texts")
  if tested := find_in("test"):
    notes.append(
      f"{len(tested)} of these texts are the run's test texts: its report no longer "
      "tests these thresholds on other texts"
    )
  return notes


def _train_parts(data: str, seed: int) -> Iterator[Records]:
  """The train split of a run's data, in parts: a pool may not fit into memory."""
  data = resolve_data(data)
  paths_of = split_files.find_splits(data, complete=False)
  if list(paths_of) == ["train"]:  # a single file, of which train is a part
    yield read.read_splits(data, seed).train
    return
  for path in paths_of.get("train", ()):
    for part, _ in read.read_chunks(path, "train", CHUNK):
      yield part


def _check_random(rows: Records) -> None:
  """Refuses texts that a model has chosen: they aren't like the other texts."""
  ids = rows.column("id")
  found = [i for i, s in enumerate(rows.column("source")) if s == selected.SOURCE]
  if found:
    raise UserError(
      f"{rows.location(found[0])}: {len(found)} of these texts were chosen by ssljax "
      f"select (the first is id {ids[found[0]]}), so they can't promise anything for "
      "others; leave them out"
    )


def _refuse(rows: Records, found: list[int], what: str) -> None:
  if found:
    ids = rows.column("id")
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise UserError(
      f"{rows.paths[0]}: {len(found)} of these texts {what}, so they can't promise "
      f"anything (id {', '.join(ids[i] for i in found[:SHOWN])}{more}); leave them out"
    )
