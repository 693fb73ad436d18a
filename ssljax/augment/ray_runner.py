"""The same shards under Ray Data: on the cores of one machine, or on a cluster.

Ray reads the Parquet parts and writes the new ones; the main process then takes out,
part by part, what the workers had to say beside the rows. Every node must see the data
folder under the same path; each keeps the cache of what it has asked for itself.
"""

import contextlib
import json
import logging
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ssljax.augment import engines, storage
from ssljax.augment.cache import Cache
from ssljax.augment.local_runner import Task
from ssljax.augment.query import Asker, Stopped
from ssljax.augment.rows import DROPPED, shard
from ssljax.data.records.schema import SCHEMA
from ssljax.errors import RunError, UserError
from ssljax.runtime.signals import StopSignals

SAID = "__said"  # column: counts, dropped views, error, in the first row of a shard
STAGED = SCHEMA.append(pa.field(SAID, pa.large_string()))
POLL = 0.2  # seconds


def rewrite(
  moves: Sequence[tuple[Path, Path]], task: Task, dropped: Path, stop: StopSignals
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

  started = not ray.is_initialized()
  context = ray.data.DataContext.get_current()
  context.execution_options.preserve_order = True  # training draws rows by their place
  context.enable_progress_bars = False
  logging.getLogger("ray.data").setLevel(logging.ERROR)
  if started:
    # The address of a cluster comes from RAY_ADDRESS; else Ray starts here, with one
    # place more than workers: those that read and write need one, or all would wait.
    here = task.settings.workers or len(os.sched_getaffinity(0))
    places = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": here + 1}
    try:
      ray.init(log_to_driver=False, logging_level="error", **places)
    except (ConnectionError, RuntimeError, ValueError) as error:
      raise UserError(
        f"Ray cannot be started or reached (RAY_ADDRESS="
        f"{os.environ.get('RAY_ADDRESS', '')}): {str(error).splitlines()[0]}"
      ) from None
    stop.install()  # Ray has taken SIGTERM for itself
  try:
    return _until(stop, lambda: _rewrite(ray, moves, task, dropped, stop))
  finally:
    if started:
      ray.shutdown()


def _until(stop: StopSignals, work: Callable[[], Counter]) -> Counter:
  """What `work` returns or raises; it is left alone, in its thread, at a signal.

  A handler that raised would do so inside of Ray.
  """
  done: Future[Counter] = Future()

  def run() -> None:
    try:
      done.set_result(work())
    except BaseException as error:
      done.set_exception(error)

  threading.Thread(target=run, daemon=True).start()
  while not stop:
    with contextlib.suppress(TimeoutError):
      return done.result(POLL)
  for name in [name for name in logging.root.manager.loggerDict if "ray" in name]:
    logging.getLogger(name).disabled = True  # they would tell of what is cut off now
  raise Stopped


def _rewrite(ray, moves, task: Task, dropped: Path, stop: StopSignals) -> Counter:
  counts: Counter[str] = Counter()
  rows = task.settings.shard
  free = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
  many = min(task.settings.workers or free, free)
  with pq.ParquetWriter(dropped, DROPPED, compression="zstd") as writer:

    def change(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
      for table in tables:
        for said in filter(None, table[SAID].to_pylist()):
          found, lost, error = json.loads(said)
          if error:
            raise (RunError if error[0] == RunError.code else UserError)(error[1])
          counts.update(found)
          if lost:
            writer.write_table(pa.Table.from_pylist(lost, DROPPED))
        yield table.select(SCHEMA.names).cast(SCHEMA)

    for source, target in moves:
      if stop:  # nobody waits for this thread any more
        raise Stopped
      staged = target.with_suffix(".staged")
      total = pq.read_metadata(source).num_rows
      some = ray.data.read_parquet(str(source)).map_batches(
        Worker,
        fn_constructor_args=(task,),
        batch_size=rows,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=max(1, min(many, -(-total // rows)))),
      )
      staged.mkdir()
      some.write_datasink(_in_order(ray, str(staged)))
      with pq.ParquetWriter(target, SCHEMA, compression="zstd") as parts:
        for part in sorted(staged.glob("*.parquet")):
          for table in change(storage.tables(part, rows)):
            parts.write_table(table, row_group_size=rows)
      shutil.rmtree(staged)
  return counts


def _in_order(ray, path: str):
  """A writer of rows in their order; the threads of Ray's own shuffle them."""

  class Sink(ray.data.Datasink):
    def write(self, blocks, ctx) -> None:
      with pq.ParquetWriter(Path(path) / f"{ctx.task_idx:09}.parquet", STAGED) as part:
        for block in blocks:
          if len(block):  # without rows it has no columns
            part.write_table(block.cast(STAGED))

  return Sink()


class Worker:
  """A process of Ray's, with its own engine and cache."""

  def __init__(self, task: Task):
    from ssljax.augment.run import judge

    settings = task.settings
    self._task, self._error = task, None
    try:
      engine = engines.make(settings.engine, task.keywords, task.shared)
      self._judge = judge(settings)
      self._ask = Asker(engine, Cache() if engine.stored else None)
    except UserError as error:
      self._error = error

  def __call__(self, table: pa.Table) -> pa.Table:
    """The shard with views; after an error, which SAID then tells, without."""
    table, said = table.select(SCHEMA.names).cast(SCHEMA), [{}, []]
    if self._error is None:
      try:
        table, *said = self._shard(table)
      except UserError as error:
        self._error = error
    # As data: of an exception that crosses Ray only its text is left.
    error = self._error and [self._error.code, str(self._error)]
    column = [json.dumps([*said, error])] + [None] * (table.num_rows - 1)
    return table.append_column(
      SAID, pa.array(column[: table.num_rows], pa.large_string())
    )

  def _shard(self, table: pa.Table) -> tuple[pa.Table, Counter, list[dict]]:
    task = self._task
    made = shard(table, self._ask, task.settings, task.origin, self._judge, task.known)
    counts = made.counts + self._ask.counts
    self._ask.counts.clear()
    return made.table, counts, made.dropped.to_pylist()
