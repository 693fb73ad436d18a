"""Adds views of one kind to a dataset folder, which it replaces by a new version."""

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.augment import cache, engines, local_runner, ray_runner, report, storage
from ssljax.augment.engine import Engine
from ssljax.augment.filters.text import language_identifier
from ssljax.augment.query import Stopped
from ssljax.augment.runner import Job, Runner, Task
from ssljax.augment.settings import parse_config
from ssljax.data.batches import word_noise
from ssljax.errors import RunError, UserError
from ssljax.runtime.signals import StopSignals

RUNNERS: dict[str, Runner] = {
  "local": local_runner.write_views,
  "ray": ray_runner.write_views,
}


def run(
  config: Mapping[str, Any],
  data: str | Path,
  stop: StopSignals | None = None,
  runner: str = "local",
) -> dict[str, Any]:
  """Adds views to a dataset folder.

    run(configs.augment.eda.get_config().to_dict(), "data/pyrit")

  Args:
    config: see configs/augment/base.py; other keys are keywords of the engine.
    data: the folder.
    stop: becomes true when the user wants to stop.
    runner: "local" or "ray".

  Returns:
    The report, which is also in `data`/augment/<kind>.json.

  Raises:
    UserError: a mistake in the config or the folder, or an engine that can't continue.
    Stopped: `stop` became true; the folder is unchanged.
  """
  stop = StopSignals() if stop is None else stop
  if not data:
    raise UserError("--data= is empty; name a dataset folder")
  settings, keywords = parse_config(config)
  folder = Path(data).expanduser().resolve()  # the target of a link is replaced
  if not storage.was_swap_interrupted(folder):
    storage.check_dataset_folder(folder, settings.splits)
  if settings.language:
    language_identifier(settings.language)  # a bad language fails before the work
  shared = {"seed": settings.seed, "views": settings.views, "data": str(folder)}
  engine = engines.make(settings.engine, keywords, shared)
  _stop_engine_at_signal(stop, engine)
  with contextlib.closing(engine), storage.locked(folder):
    splits = storage.check_dataset_folder(folder, settings.splits)
    files = [file for parts in splits.values() for file in parts]
    origin = f"{engine.name}:{cache.settings_hash(engine)[:8]}"
    vocabulary = _vocabulary(files) if settings.fallback == "words" else None
    began = time.monotonic()
    total = sum(pq.read_metadata(file).num_rows for file in files)
    names = [f"{settings.kind}.json", f"{settings.kind}-dropped.parquet"]
    rewritten = {file.relative_to(folder) for file in files}
    rewritten |= {Path(report.FOLDER, name) for name in names}
    with storage.new_version(folder, rewritten.__contains__) as new:
      (new / report.FOLDER).mkdir(exist_ok=True)
      job = Job(
        Task(settings, keywords, shared, origin, vocabulary),
        [(file, new / file.relative_to(folder)) for file in files],
        new / report.FOLDER / names[1],
        min(total, settings.limit or total),
        engine,
        stop,
      )
      counts = RUNNERS[runner](job)
      if counts["texts without a view"] == counts["texts"] > 0:
        raise RunError(_no_views_message(counts, settings.kind))
      origins = report.read(folder, settings.kind).get("origins", {})
      provenance = {"engine": engine.name, "settings": dict(engine.settings)}
      result = {
        "kind": settings.kind,
        "engine": engine.name,
        "origin": origin,
        "config": dict(config),
        "counts": report.sort_counts(counts),
        # With Ray the engines run in its workers.
        "usage": {} if runner == "ray" else dict(engine.usage()),
        "seconds": time.monotonic() - began,
        "origins": {**origins, origin: provenance},
      }
      report.write(new, settings.kind, result)
      if stop:
        raise Stopped
  return result


def _stop_engine_at_signal(stop: StopSignals, engine: Engine) -> None:
  announce = stop.on_stop

  def on_stop() -> None:
    if announce is not None:
      announce()
    if engine.stop is not None:
      engine.stop()

  stop.on_stop = on_stop


def _no_views_message(counts: Counter[str], kind: str) -> str:
  prefix = "dropped: "
  reasons = [
    f"{name.removeprefix(prefix)} {count}"
    for name, count in report.sort_counts(counts).items()
    if name.startswith(prefix)
  ]
  why = ", ".join(reasons[:4]) or "the engine returned none"
  return (
    f"none of the {counts['texts']} texts got a view of kind {kind} ({why}); the folder"
    " is unchanged. Check the filter and engine keys of the config"
  )


def _vocabulary(files: Sequence[Path]) -> word_noise.Vocabulary:
  """Counts the words of evenly spaced rows, the same for any division into shards."""
  total = sum(pq.read_metadata(file).num_rows for file in files)
  every = max(1, total // word_noise.MAX_COUNTED_TEXTS)
  texts: list[str] = []
  row = 0
  for path in files:
    with pq.ParquetFile(path, buffer_size=1 << 20) as file:
      for batch in file.iter_batches(4096, columns=["text", "response"]):
        rows = np.arange(-row % every, batch.num_rows, every)
        sample = batch.take(pa.array(rows))
        row += batch.num_rows
        for name in ("text", "response"):
          texts += [text for text in sample[name].to_pylist() if text is not None]
  return word_noise.count_words(texts)
