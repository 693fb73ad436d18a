"""Adds views of one kind to a dataset folder by replacing it with a new version."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ssljax.augment import cache, engines, local_runner, ray_runner, report, storage
from ssljax.augment.filters.text import language_identifier
from ssljax.augment.query import Stopped
from ssljax.augment.runner import Job, Task
from ssljax.augment.settings import parse_config
from ssljax.data.batches import word_noise
from ssljax.errors import RunError, UserError
from ssljax.runtime.signals import StopSignals

RUNNERS = {"local": local_runner, "ray": ray_runner}


def run(
  config: Mapping[str, Any],
  data: str | Path,
  stop: StopSignals | None = None,
  runner: str = "local",
) -> dict[str, Any]:
  """Adds views to a dataset folder.

    run(configs.augment.eda.get_config().to_dict(), "data/pyrit")

  Args:
    config: has the keys of `Settings`; its other keys are keywords of the engine.
    data: the folder.
    stop: becomes true when the user wants to stop.
    runner: "local" or "ray".

  Returns:
    The report; `run` also writes it to `data`/augment/<kind>.json.

  Raises:
    UserError: the config or the folder is invalid, or the engine can't continue.
    Stopped: `stop` became true; the folder is unchanged.
  """
  stop = StopSignals() if stop is None else stop
  if not data:
    raise UserError("no data: give --data=FOLDER, a dataset folder")
  settings, keywords = parse_config(config)
  folder = Path(data).expanduser().resolve()  # replaces the folder, not a link to it
  if not storage.was_swap_interrupted(folder):
    storage.check_dataset_folder(folder, settings.splits)
  if settings.language:
    language_identifier(settings.language)  # fails early if the language is unknown
  shared = {"seed": settings.seed, "views": settings.views, "data": str(folder)}
  engine = engines.make(settings.engine, keywords, shared)
  calls = [call for call in (stop.on_stop, engine.stop) if call is not None]
  stop.on_stop = lambda: [call() for call in calls]
  with contextlib.closing(engine), storage.locked(folder):
    splits = storage.check_dataset_folder(folder, settings.splits)
    files = [file for parts in splits.values() for file in parts]
    origin = f"{engine.name}:{cache.settings_hash(engine)[:8]}"
    vocabulary = _vocabulary(files) if settings.fallback == "words" else None
    began = time.monotonic()
    total = sum(pq.read_metadata(file).num_rows for file in files)
    dropped = Path(report.FOLDER, f"{settings.kind}-dropped.parquet")
    rewritten = {file.relative_to(folder) for file in files}
    rewritten |= {dropped, Path(report.FOLDER, f"{settings.kind}.json")}
    with storage.new_version(folder, rewritten.__contains__) as new:
      (new / report.FOLDER).mkdir(exist_ok=True)
      job = Job(
        Task(settings, keywords, shared, origin, vocabulary),
        [(file, new / file.relative_to(folder)) for file in files],
        new / dropped,
        min(total, settings.limit or total),
        engine,
        stop,
      )
      counts = RUNNERS[runner].write_views(job)
      if 0 < counts["texts"] == counts["texts without a view"]:
        reasons = [
          f"{name.removeprefix('dropped: ')} {count}"
          for name, count in counts.most_common()
          if name.startswith("dropped: ")
        ]
        why = ", ".join(reasons[:4]) or "the engine returned none"
        raise RunError(
          f"none of the {counts['texts']} texts got a view of kind {settings.kind} "
          f"({why}); the folder is unchanged. Check the filter and engine keys of the "
          "config"
        )
      origins = report.read(folder, settings.kind).get("origins", {})
      origins[origin] = {"engine": engine.name, "settings": dict(engine.settings)}
      result = {
        "kind": settings.kind,
        "engine": engine.name,
        "origin": origin,
        "config": dict(config),
        "counts": report.sort_counts(counts),
        # With Ray, engines in the workers make the views; their usage isn't collected.
        "usage": {} if runner == "ray" else dict(engine.usage()),
        "seconds": time.monotonic() - began,
        "origins": origins,
      }
      report.write(new, settings.kind, result)
      if stop:
        raise Stopped
  return result


def _vocabulary(files: Sequence[Path]) -> word_noise.Vocabulary:
  """Counts the words of evenly spaced rows, which don't depend on the shards' size."""
  total = sum(pq.read_metadata(file).num_rows for file in files)
  every = max(1, total // word_noise.MAX_COUNTED_TEXTS)
  texts, row = [], 0
  for path in files:
    for table in storage.read_tables(path, 4096, ["text", "response"]):
      sample = table.take(np.arange(-row % every, table.num_rows, every))
      row += table.num_rows
      for column in sample.columns:
        texts += column.drop_null().to_pylist()
  return word_noise.count_words(texts)
