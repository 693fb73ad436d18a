"""Makes views of one kind for a dataset folder: reads, makes, writes, replaces."""

import contextlib
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.augment import cache, engines, local_runner, report, storage
from ssljax.augment import settings as settings_of
from ssljax.augment.cache import Cache
from ssljax.augment.filters import text as filters
from ssljax.augment.query import Asker, Stopped
from ssljax.augment.rows import DROPPED, Judge, Made
from ssljax.augment.settings import Settings
from ssljax.data.batches import word_noise
from ssljax.data.records import checks
from ssljax.data.records.records import Records
from ssljax.errors import RunError, UserError
from ssljax.runtime.progress import Progress
from ssljax.runtime.signals import StopSignals

CACHE_SECONDS = 30.0  # at the start answers often come from the cache, quickly
REPORTS = "augment"  # the folder inside the data folder


def run(
  config: Mapping[str, Any],
  data: str | Path,
  stop: StopSignals | None = None,
  runner: str = "local",
) -> dict:
  """Adds views to a dataset folder.

  Args:
    config: see configs/augment/base.py; what is not there is a keyword of the engine.
    data: the folder.
    stop: becomes true when the user wants to stop.
    runner: "local", or "ray".

  Returns:
    The report, as it stands in `data`/augment/<kind>.json.

  Raises:
    UserError: a mistake in config or folder, or an engine that cannot go on.
    Stopped: `stop` came true; the folder is as it was.
  """
  stop = StopSignals() if stop is None else stop
  if not data:
    raise UserError("--data= is empty; give a dataset folder")
  settings, keywords = settings_of.divide(config)
  path = Path(data).expanduser().resolve()  # of a link, what it points to
  if not storage.half_done(path):
    storage.check(path, settings.splits)
  if settings.language:
    filters.identifier(settings.language)  # fails here, not in the middle
  shared = {"seed": settings.seed, "views": settings.views, "data": str(path)}
  engine = engines.make(settings.engine, keywords, shared)
  announce = stop.on_stop

  def on_stop() -> None:
    if announce is not None:
      announce()
    if engine.stop is not None:
      engine.stop()

  stop.on_stop = on_stop
  with contextlib.ExitStack() as stack:
    stack.callback(engine.close)
    stack.enter_context(storage.locked(path))
    parts = storage.check(path, settings.splits)
    origin = f"{engine.name}:{cache.settings_hash(engine)[:8]}"
    known = _vocabulary(parts) if settings.fallback == "words" else None
    task = local_runner.Task(settings, keywords, shared, origin, known)
    began = time.monotonic()
    total = sum(pq.read_metadata(p).num_rows for some in parts.values() for p in some)
    total = min(total, settings.limit or total)
    ask = Asker(engine, Cache() if engine.stored else None, stop)
    stack.callback(ask.close)
    progress = Progress(total, "answer", settle=CACHE_SECONDS)
    stack.callback(progress.close)

    def tick(answers: int, more: int) -> None:
      progress.update(answers, engine.usage(), added=more)

    files = [part for some in parts.values() for part in some]
    names = [f"{settings.kind}.json", f"{settings.kind}-dropped.parquet"]
    own = {part.relative_to(path) for part in files}
    own |= {Path(REPORTS, name) for name in names}
    with storage.renewed(path, own.__contains__) as fresh:
      (fresh / REPORTS).mkdir(exist_ok=True)
      moves = [(part, fresh / part.relative_to(path)) for part in files]
      dropped = fresh / REPORTS / names[1]
      if runner == "ray":
        from ssljax.augment import ray_runner

        counts = ray_runner.rewrite(moves, task, dropped, stop)
      else:
        make = _maker(task, ask, stop, tick, total)
        stack.callback(make.close)
        counts = _rewrite(moves, make, dropped, total, settings.shard) + ask.counts
      if counts["texts without a view"] == counts["texts"] > 0:
        raise RunError(_none(counts, settings.kind))
      before = report.read(path / REPORTS, settings.kind).get("origins", {})
      mine = {"engine": engine.name, "settings": dict(engine.settings)}
      found = {
        "kind": settings.kind,
        "engine": engine.name,
        "origin": origin,
        "config": dict(config),
        "counts": report.ordered(counts),
        "usage": {} if runner == "ray" else dict(engine.usage()),  # of its workers
        "seconds": time.monotonic() - began,
        "origins": {**before, origin: mine},
      }
      report.write(fresh / REPORTS, settings.kind, found)
      if stop:
        raise Stopped
  return found


def _none(counts: Counter, kind: str) -> str:
  """Says that a run has made nothing, and why."""
  lost = report.ordered(counts)
  reasons = [f"{n.removeprefix('dropped: ')} {c}" for n, c in lost.items() if ":" in n]
  why = ", ".join(reasons[:4]) or "the engine has given none"
  return (
    f"none of the {counts['texts']} texts has got a view of kind {kind} ({why}), so the"
    " folder is left as it was; see the filters' and the engine's keys of the config"
  )


def _maker(
  task: local_runner.Task,
  ask: Asker,
  stop: StopSignals,
  tick: Callable[[int, int], None],
  total: int,
) -> local_runner.Here | local_runner.Beside:
  settings = task.settings
  processes = settings_of.processes(settings, local=not ask.engine.stored)
  processes = min(processes, -(-total // settings.shard))
  if processes > 1:
    return local_runner.Beside(task, processes, stop, tick)
  return local_runner.Here(task, ask, judge(settings), tick)


def _rewrite(
  moves: Sequence[tuple[Path, Path]],
  make: Callable[[Iterator[pa.Table]], Iterator[Made]],
  dropped: Path,
  limit: int,
  rows: int,
) -> Counter:
  """Writes each part anew, the first `limit` rows with views; the counts."""
  counts: Counter[str] = Counter()
  with pq.ParquetWriter(dropped, DROPPED, compression="zstd") as writer:

    def change(tables: Iterator[pa.Table], source: Path) -> Iterator[pa.Table]:
      tables, rest = _checked(tables, source), []
      for made in make(_first(tables, limit - counts["texts"], rest)):
        counts.update(made.counts)
        if made.dropped.num_rows:
          writer.write_table(made.dropped)
        yield made.table
      yield from rest
      yield from tables

    for source, target in moves:
      storage.rewrite(source, target, rows, functools.partial(change, source=source))
  return counts


def _first(
  tables: Iterator[pa.Table], rows: int, rest: list[pa.Table]
) -> Iterator[pa.Table]:
  """The first `rows` rows; where they end inside a table, `rest` gets its other part.

  Takes no table that it does not need.
  """
  while rows > 0 and (table := next(tables, None)) is not None:
    if table.num_rows > rows:
      rest.append(table.slice(rows))
    yield table.slice(0, rows)
    rows -= table.num_rows


def _checked(tables: Iterator[pa.Table], path: Path) -> Iterator[pa.Table]:
  """The tables, each held to what a record must be; an error names file and row."""
  begin = 1
  for table in tables:
    n = table.num_rows
    line = np.arange(begin, begin + n)
    checks.rows(Records(table, (path,), np.zeros(n, np.int32), line))
    begin += n
    yield table


def judge(settings: Settings) -> Judge:
  """The filters that need an encoder; JAX is imported only for them."""
  similar = same_label = None
  if settings.least_similarity > 0:
    from ssljax.augment.filters.similarity import Similarity

    similar = Similarity(settings.similarity_encoder, settings.least_similarity)
  if settings.label_check:
    from ssljax.augment.filters.label import Verdict

    try:
      same_label = Verdict(settings.label_check)
    except UserError as error:
      raise UserError(f"--config.label_check: {error}") from None
  return Judge(similar, same_label)


def _vocabulary(parts: Mapping[str, Sequence[Path]]) -> word_noise.Vocabulary:
  """Words for the fallback, of evenly spaced rows: the same for any shards."""
  files = [part for some in parts.values() for part in some]
  total = sum(pq.read_metadata(part).num_rows for part in files)
  every = max(1, total // word_noise.COUNTED)
  texts: list[str] = []
  row = 0
  for part in files:
    with pq.ParquetFile(part, buffer_size=1 << 20) as file:
      for batch in file.iter_batches(4096, columns=["text", "response"]):
        some = batch.slice(-row % every).take(
          pa.array(np.arange(0, max(0, batch.num_rows - (-row % every)), every))
        )
        row += batch.num_rows
        for name in ("text", "response"):
          texts += [text for text in some[name].to_pylist() if text is not None]
  return word_noise.vocabulary(texts)
