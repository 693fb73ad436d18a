"""Adds views with Ray Data: on the cores of one machine, or on a cluster.

Workers append a column with their counts, dropped views and errors. The main process
collects and removes this column. Every node must see the dataset folder under the same
path, and has its own cache.
"""

import contextlib
import logging
import os
import pickle
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pyarrow as pa

from ssljax.augment import storage
from ssljax.augment.query import Stopped
from ssljax.augment.rows import DROPPED, ShardResult
from ssljax.augment.runner import Augmenter, Job, Task, write_results
from ssljax.data.records import files
from ssljax.data.records.schema import SCHEMA
from ssljax.errors import UserError
from ssljax.runtime import threads

# The first row of each shard holds (counts, dropped views, error or None), pickled.
SIDE_COLUMN = "__report"
POLL_SECONDS = 0.2


def write_views(job: Job) -> Counter[str]:
  """Adds views to all rows of the files, and keeps the order of the rows.

  Raises:
    UserError: Ray isn't installed or can't start, the config sets `limit`, a row of the
      dataset is malformed, or the engine can't continue.
    Stopped: a signal arrived. What the workers have cached stays cached.
  """
  if job.task.settings.limit:
    raise UserError(
      "--config.limit works only with --runner=local; remove one of the two flags"
    )
  try:
    import ray
  except ImportError:
    raise UserError("--runner=ray needs Ray: pip install -e '.[ray]'") from None

  started = not ray.is_initialized()
  context = ray.data.DataContext.get_current()
  context.execution_options.preserve_order = True  # training draws rows by position
  context.enable_progress_bars = False
  logging.getLogger("ray.data").setLevel(logging.ERROR)
  if started:
    # If RAY_ADDRESS is set, it names a cluster; otherwise Ray starts on this machine.
    # Without a CPU that no worker uses, reading and writing would wait forever.
    workers = job.task.settings.workers or len(os.sched_getaffinity(0))
    resources = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers + 1}
    try:
      ray.init(log_to_driver=False, logging_level="error", **resources)
    except (ConnectionError, RuntimeError, ValueError) as error:
      address, reason = os.environ.get("RAY_ADDRESS", ""), str(error).splitlines()[0]
      raise UserError(
        f"cannot start or reach Ray (RAY_ADDRESS={address}): {reason}"
      ) from None
    job.stop.install()  # Ray has replaced the handler of SIGTERM
  try:
    # An exception from a signal handler would surface inside Ray. Therefore Ray runs in
    # a thread, which is abandoned after a signal.
    result = threads.start(_write_views, ray, job)
    while not job.stop:
      with contextlib.suppress(TimeoutError):
        return result.result(POLL_SECONDS)
    for name in [name for name in logging.root.manager.loggerDict if "ray" in name]:
      logging.getLogger(name).disabled = True  # Ray would report the abandoned work
    raise Stopped
  finally:
    if started:
      ray.shutdown()


def _write_views(ray, job: Job) -> Counter[str]:
  rows = job.task.settings.shard
  free = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
  max_workers = min(job.task.settings.workers or free, free)

  def augment(source: Path) -> Generator[ShardResult, None, None]:
    if job.stop:  # this thread has been abandoned
      raise Stopped
    # Ray doesn't verify checksums.
    total = sum(table.num_rows for table in storage.read_tables(source, files.BATCH))
    shards = -(-total // rows)
    dataset = ray.data.read_parquet(str(source)).map_batches(
      Worker,
      fn_constructor_args=(job.task,),
      batch_size=rows,
      batch_format="pyarrow",
      compute=ray.data.ActorPoolStrategy(size=max(1, min(max_workers, shards))),
    )
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
      counts, dropped = Counter(), [DROPPED.empty_table()]
      for message in filter(None, table[SIDE_COLUMN].to_pylist()):
        shard_counts, shard_dropped, error = pickle.loads(message)
        if error:
          raise error
        counts.update(shard_counts)
        dropped.append(shard_dropped)
      table = table.select(SCHEMA.names).cast(SCHEMA)
      yield ShardResult(table, counts, pa.concat_tables(dropped))

  return write_results(job, augment)


class Worker:
  """Adds views to shards in a Ray actor."""

  def __init__(self, task: Task):
    self._error = None
    try:
      self._augmenter = Augmenter(task)
    except UserError as error:
      self._error = error

  def __call__(self, table: pa.Table) -> pa.Table:
    """Adds views and SIDE_COLUMN to a shard; after an error, adds only SIDE_COLUMN."""
    table = table.select(SCHEMA.names).cast(SCHEMA)
    result = ShardResult(table, Counter(), DROPPED.empty_table())
    if self._error is None:
      try:
        result = self._augmenter.augment(table)
      except UserError as error:
        self._error = error
    # Ray would keep only the text of an exception, so errors are sent as data.
    message = pickle.dumps((result.counts, result.dropped, self._error))
    column = ([message] + [None] * table.num_rows)[: table.num_rows]
    return result.table.append_column(SIDE_COLUMN, pa.array(column, pa.large_binary()))
