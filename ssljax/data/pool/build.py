"""Makes a token store: reads training files part by part, in several processes.

What is there of an earlier attempt is used, so a build that was killed continues. The
result doesn't depend on the number of processes.
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ssljax.assets import fetch
from ssljax.data.batches import sealed, tokenize
from ssljax.data.batches.token_words import make_table
from ssljax.data.pool import index, shard
from ssljax.data.pool.hashes import file_sha256, stamp
from ssljax.data.pool.shard import Encoding
from ssljax.data.pool.store import Store, shard_name
from ssljax.data.records import checks, files
from ssljax.data.records.read import read_chunks
from ssljax.data.records.records import Records
from ssljax.errors import TERMINATED, RunError, UserError
from ssljax.runtime import children, lock, signals
from ssljax.runtime.atomic import FULL
from ssljax.runtime.progress import Progress

ROWS = 32_768  # of a shard
LARGE = 1 << 24  # bytes of files from which progress is shown
SETTLE = 5.0  # seconds before the first line of progress


class Source(NamedTuple):
  """A training file."""

  path: Path
  prefix: str  # of the ids of rows without an id; see `read.id_prefix`


class _Task(NamedTuple):
  """A shard to make; in the form in which it's sent to another process."""

  folder: Path
  table: pa.Buffer  # of Records
  path: Path
  line: np.ndarray
  ignored: tuple[str, ...]
  encoding: Encoding


def open_store(
  sources: Sequence[Source], encoding: Encoding, verify: bool = False
) -> Store:
  """Opens the store of these files, and makes it first if it isn't there.

  Args:
    verify: compare all content with its hashes, not only that of files that changed.

  Raises:
    UserError: a row is malformed, an id occurs twice, or the cache can't be written.
  """
  # If a file has the same stamp after it was read, its content is the one of the hash.
  stamps = [stamp(source.path) for source in sources]
  folder = store_folder(sources, encoding, verify)
  paths = [source.path for source in sources]
  store = Store(folder, paths, verify)
  if store.is_whole:
    return store
  with lock.alone(folder):
    store = Store(folder, paths, verify)  # another process may have made it
    if store.is_whole:
      return store
    _make(folder, sources, stamps, encoding, verify)
    store = Store(folder, paths)
  if not store.is_whole:
    raise RunError(f"{folder}: cannot be read as it was written; check the disk")
  return store


def store_folder(
  sources: Sequence[Source], encoding: Encoding, verify: bool = False
) -> Path:
  """The folder of a store; its name depends on the files' content and the tokenizer."""
  digest = tokenize.fingerprint(
    encoding.encoder, encoding.max_length, encoding.tokenization
  )
  content = [[file_sha256(s.path, verify), s.prefix] for s in sources]
  digest.update(json.dumps([shard.FORMAT, ROWS, content]).encode())
  return fetch.cache_folder() / "pools" / digest.hexdigest()[:32]


def check_beginning(sources: Sequence[Source]) -> None:
  """Checks the first rows of each file; raises UserError for a malformed one."""
  for source in sources:
    for records, _ in read_chunks(source.path, source.prefix, ROWS):
      checks.check_rows(records)
      break


def _make(
  folder: Path,
  sources: Sequence[Source],
  stamps: Sequence[list[int]],
  encoding: Encoding,
  verify: bool,
) -> None:
  """Makes the shards that are missing or damaged, then the index.

  Args:
    stamps: of the sources, from before the folder's name was computed.

  Raises:
    RunError: a source has changed.
  """
  known = [s.path for s in sources if files.suffix(s.path) == ".parquet"]
  total = sum(files.count_rows(path) for path in known)
  is_long = total > ROWS or sum(s.path.stat().st_size for s in sources) > LARGE
  made: list[tuple[int, str]] = []
  target = folder / "index"
  if sealed.was_sealed(target) and index.read(target, verify) is None:
    print(f"{target}: damaged; it is made again", file=sys.stderr)
  with contextlib.ExitStack() as stack:
    progress = stack.enter_context(
      Progress(total, "row", active=is_long, label="tokenise", settle=SETTLE)
    )

    def tasks() -> Iterator[tuple[_Task | None, int]]:
      """Yields (task, rows); the task is None if the shard is there."""
      for number, source in enumerate(sources):
        chunks = read_chunks(source.path, source.prefix, ROWS)
        if source.path not in known:
          chunks = list(chunks)  # the file is in memory anyway
          progress.update(0, added=sum(len(records) for records, _ in chunks))
        for k, (records, ignored) in enumerate(chunks):
          if stamp(source.path) != stamps[number]:
            raise changed(source.path)
          name = shard_name(number, k)
          made.append((number, name))
          if shard.read(folder / name, verify) is not None:
            yield None, len(records)
            continue
          if sealed.was_sealed(folder / name):
            print(f"{folder / name}: damaged; it is made again", file=sys.stderr)
          yield _task(folder / name, records, ignored, encoding), len(records)

    # Starting processes takes longer than tokenising a small pool.
    run = _run(tasks(), stack) if is_long else _run_here(tasks())
    for rows in run:
      progress.update(rows)

  def shards() -> Iterator[tuple[int, shard.Shard]]:
    for number, name in made:
      found = shard.read(folder / name)
      if found is None:
        raise RunError(f"{folder / name}: cannot be read as it was written")
      yield number, found

  def place(k: int, row: int) -> tuple[str, str]:
    number, name = made[k]
    source = sources[number]
    chunks = read_chunks(source.path, source.prefix, ROWS)
    which = int(name.partition("-")[2])
    records, _ = next(itertools.islice(chunks, which, None))
    return records.location(row), records.column("id")[row]

  tokenizer = tokenize.load_tokenizer(encoding.encoder, encoding.tokenization)
  built = index.build(shards, make_table(tokenizer), place)
  tokenize.warn_if_unknown(encoding.encoder, *built.unknown, tokenizer.unk_token)
  with _writes(target):
    index.write(target, built)


def changed(path: Path) -> RunError:
  return RunError(f"{path}: changed while it was read; run the command again")


def _task(
  folder: Path, records: Records, ignored: tuple[str, ...], encoding: Encoding
) -> _Task:
  sink = pa.BufferOutputStream()
  with pa.ipc.new_stream(sink, records.table.schema) as writer:
    writer.write_table(records.table)
  return _Task(
    folder, sink.getvalue(), records.paths[0], records.line, ignored, encoding
  )


def _make_shard(task: _Task) -> None:
  table = pa.ipc.open_stream(task.table).read_all()
  records = Records(table, (task.path,), np.zeros(len(table), np.int32), task.line)
  made = shard.make(records, task.ignored, task.encoding)
  with _writes(task.folder):
    shard.write(task.folder, made)


@contextlib.contextmanager
def _writes(folder: Path) -> Iterator[None]:
  """Explains an OSError of the block, which writes the folder."""
  try:
    yield
  except OSError as error:
    kind = RunError if error.errno in FULL else UserError
    raise kind(
      f"{folder}: cannot write the tokens ({error}); free some space, or set "
      "SSLJAX_CACHE to a writable folder"
    ) from error


def _run_here(tasks: Iterable[tuple[_Task | None, int]]) -> Iterator[int]:
  """Runs the tasks in this process; yields their rows."""
  for task, rows in tasks:
    if task is not None:
      _make_shard(task)
    yield rows


def _run(
  tasks: Iterable[tuple[_Task | None, int]], stack: contextlib.ExitStack
) -> Iterator[int]:
  """Runs the tasks, in this process if there is only one; yields their rows."""
  tasks = iter(tasks)
  waiting: deque[tuple[_Task | None, int]] = deque()
  while sum(task is not None for task, _ in waiting) < 2:
    if (following := next(tasks, None)) is None:
      yield from _run_here(waiting)
      return
    waiting.append(following)
  processes = len(os.sched_getaffinity(0))
  others = multiprocessing.active_children()
  pool = _start_pool(processes)
  stack.callback(pool.shutdown, cancel_futures=True)
  in_flight: deque[tuple[Future[None] | None, int]] = deque()
  try:
    with signals.StopSignals(_terminate, signals=(signal.SIGTERM,)):
      while True:
        following = waiting.popleft() if waiting else next(tasks, None)
        if following is None:
          break
        task, rows = following
        in_flight.append((task and _submit(pool, task), rows))
        while len(in_flight) > processes + 2:
          yield _finish(*in_flight.popleft())
      while in_flight:
        yield _finish(*in_flight.popleft())
  except BaseException as error:
    # Otherwise `shutdown` would wait until all of them have made their shards, even
    # after Ctrl-C. A shard that is being written is lost.
    for process in multiprocessing.active_children():
      if process not in others:
        process.kill()
    if not isinstance(error, BrokenProcessPool):
      raise
    raise RunError(
      "a process that tokenises died, possibly because memory ran out; run the command "
      "again to continue"
    ) from None


def _terminate() -> None:
  raise SystemExit(TERMINATED)


def _start_pool(processes: int) -> ProcessPoolExecutor:
  spawn = multiprocessing.get_context("spawn")
  try:
    return ProcessPoolExecutor(processes, spawn, _start_worker)
  except OSError as error:  # its queues need a little shared memory
    raise RunError(
      f"cannot start {processes} processes ({error}); free some space in /dev/shm"
    ) from error


def _submit(pool: ProcessPoolExecutor, task: _Task) -> Future[None]:
  # This may start a process. It inherits the blocked signals, so that none can end it
  # before it ignores them.
  blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signals.EXIT_CODES)
  try:
    return pool.submit(_make_shard, task)
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _finish(future: Future[None] | None, rows: int) -> int:
  if future is not None:
    future.result()
  return rows


def _start_worker() -> None:
  children.serve_parent()
  # Each process uses one core.
  os.environ["TOKENIZERS_PARALLELISM"] = "false"
  pa.set_cpu_count(1)
