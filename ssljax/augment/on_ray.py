"""The same shards under Ray Data: on the cores of one machine, or on a cluster.

Ray reads the Parquet parts and writes the new ones; the main process then takes out,
part by part, what the workers had to say beside the rows. Every node must see the data
folder under the same path; each keeps the cache of what it has asked for itself.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.augment import engines, folder
from ssljax.augment.ask import Asker, Stopped
from ssljax.augment.cache import Cache
from ssljax.augment.shard import DROPPED, shard
from ssljax.augment.stop import Stop
from ssljax.augment.workers import Task
from ssljax.data.columns import SCHEMA
from ssljax.errors import UserError

SAID = "__said"  # column: counts and dropped views, in the first row of a shard


def rewrite(
  moves: Sequence[tuple[Path, Path]], task: Task, dropped: Path, stop: Stop
) -> Counter:
  """Writes each part anew with views, rows in their order; the counts.

  Raises:
    UserError: Ray is not installed, or a key that only the local runner has.
    Stopped: a signal came; what the workers have stored in their caches stays there.
  """
  if task.settings.limit:
    raise UserError("--config.limit is for --runner=local; leave one of the two out")
  try:
    import ray
  except ImportError:
    raise UserError("--runner=ray needs Ray: pip install -e '.[ray]'") from None

  def leave() -> None:
    raise Stopped  # out of whatever Ray is waiting for

  stop.tell = leave
  started = not ray.is_initialized()
  # Training draws labelled rows by their place.
  ray.data.DataContext.get_current().execution_options.preserve_order = True
  if started:
    # The address of a cluster comes from RAY_ADDRESS; else Ray starts here, with one
    # place more than workers: those that read and write need one, or all would wait.
    here = task.settings.workers or len(os.sched_getaffinity(0))
    places = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": here + 1}
    ray.init(log_to_driver=False, logging_level="warning", **places)
  try:
    return _rewrite(ray, moves, task, dropped)
  except ray.exceptions.RayTaskError as error:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
      cause = getattr(cause, "cause", None) or cause.__cause__
    if cause is None:
      raise
    raise cause from None
  finally:
    if started:
      ray.shutdown()


def _rewrite(ray, moves, task: Task, dropped: Path) -> Counter:
  counts: Counter[str] = Counter()
  rows = task.settings.shard
  free = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
  many = min(task.settings.workers or free, free)
  with pq.ParquetWriter(dropped, DROPPED, compression="zstd") as writer:

    def change(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
      for table in tables:
        for said in filter(None, table[SAID].to_pylist()):
          found, lost = json.loads(said)
          counts.update(found)
          if lost:
            writer.write_table(pa.Table.from_pylist(lost, DROPPED))
        yield table.select(SCHEMA.names).cast(SCHEMA)

    for source, target in moves:
      staged = target.with_suffix(".staged")
      total = pq.read_metadata(source).num_rows
      some = ray.data.read_parquet(str(source)).map_batches(
        Worker,
        fn_constructor_args=(task,),
        batch_size=rows,
        batch_format="pyarrow",
        concurrency=max(1, min(many, -(-total // rows))),
      )
      some.write_parquet(str(staged))
      with pq.ParquetWriter(target, SCHEMA, compression="zstd") as parts:
        for part in sorted(staged.glob("*.parquet")):
          for table in change(folder.tables(part, rows)):
            parts.write_table(table, row_group_size=rows)
      shutil.rmtree(staged)
  return counts


class Worker:
  """A process of Ray's, with its own engine and cache."""

  def __init__(self, task: Task):
    from ssljax.augment.run import judge

    settings = task.settings
    engine = engines.make(settings.engine, task.keywords, task.shared)
    self._task, self._judge = task, judge(settings)
    self._ask = Asker(engine, Cache() if engine.stored else None)

  def __call__(self, table: pa.Table) -> pa.Table:
    task = self._task
    table = table.select(SCHEMA.names).cast(SCHEMA)
    made = shard(table, self._ask, task.settings, task.origin, self._judge, task.known)
    counts = made.counts + self._ask.counts
    self._ask.counts.clear()
    said = json.dumps([counts, made.dropped.to_pylist()])
    column = [said] + [None] * (table.num_rows - 1)
    return made.table.append_column(
      SAID, pa.array(column[: table.num_rows], pa.large_string())
    )
