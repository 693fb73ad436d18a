"""Finds texts that a run has used, so that they can't promise anything for new ones."""

from collections.abc import Iterator

from ssljax.data.dedup.normalize import text_digest
from ssljax.data.records import read, split_files
from ssljax.data.records.records import Records
from ssljax.data.sources.build import resolve_data
from ssljax.errors import UserError
from ssljax.evals.runs import Run

CHUNK = 50_000  # rows of train in memory
SHOWN = 3  # ids in a message


def check_unused(rows: Records, run: Run) -> list[str]:
  """Refuses texts that chose the run's checkpoint, or that are labelled texts of train.

  Args:
    rows: texts on which thresholds are to be chosen.
    run: a finished run. Its train split is read part by part.

  Returns:
    Notes: whether the run has seen some of the texts without their labels, and whether
    its data is gone, so that train couldn't be compared.

  Raises:
    UserError: the run has used some of the texts.
  """
  ids_of: dict[bytes, list[str]] = {}
  for id_, digest in zip(rows.column("id"), _digests(rows), strict=True):
    ids_of.setdefault(digest, []).append(id_)
  ids = lambda digests: [i for digest in digests for i in ids_of.get(digest, ())]
  chose = []
  for split in ("validation", "calibration"):
    if (run.workdir / "predictions" / f"{split}.parquet").exists():
      saved = run.predictions(split)
      chose += map(text_digest, saved.text, saved.response)
  if found := ids(dict.fromkeys(chose)):
    raise _used(rows, found, "chose the run's checkpoint")
  labelled, unlabelled = {}, {}  # digests, in order
  try:
    for part in _train_parts(run.config["data"], run.config["seed"]):
      for digest, label in zip(_digests(part), part.label.tolist(), strict=True):
        if digest in ids_of:
          (unlabelled if label < 0 else labelled)[digest] = None
  except UserError as error:
    return [f"it can't be checked whether the run was trained on these texts: {error}"]
  if found := ids(labelled):
    raise _used(rows, found, "are labelled texts of the run's train split")
  if found := ids(unlabelled):
    return [
      f"the run has seen {len(found)} of these {len(rows)} texts without their labels "
      f"({_shown(found)}); it may do better on them than on new texts"
    ]
  return []


def _train_parts(data: str, seed: int) -> Iterator[Records]:
  """The train split of a run's data, in parts."""
  data = resolve_data(data)
  paths_of = split_files.find_splits(data, complete=False)
  if list(paths_of) == ["train"]:  # a single file, of which train is a part
    yield read.read_splits(data, seed).train
    return
  for path in paths_of.get("train", ()):
    for part, _ in read.read_chunks(path, "train", CHUNK):
      yield part


def _digests(rows: Records) -> list[bytes]:
  return list(map(text_digest, rows.column("text"), rows.column("response")))


def _used(rows: Records, ids: list[str], how: str) -> UserError:
  return UserError(
    f"{rows.paths[0]}: {len(ids)} of these texts {how}, so they can't promise anything "
    f"({_shown(ids)}); leave them out"
  )


def _shown(ids: list[str]) -> str:
  more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
  return f"id {', '.join(ids[:SHOWN])}{more}"
