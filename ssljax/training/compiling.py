"""Says that a program is being compiled, and how long that took the last time."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Set
from typing import Any

import jax
from jax import monitoring

from ssljax.assets import fetch
from ssljax.config import method_name
from ssljax.runtime.json_files import write_json
from ssljax.training.assemble import TrainingJob

# Events of JAX: a program is looked up in the compilation cache; it was there.
LOOKUP = "/jax/compilation_cache/compile_requests_use_cache"
HIT = "/jax/compilation_cache/cache_hits"
PATIENCE = 3.0  # seconds; a program from the cache is there by then
RECORD = "compile_seconds.json"  # in the cache folder: the last time by kind of step
# The kind of a step: these keys, the method and the devices.
KIND = (
  *("encoder", "dtype", "remat", "attention", "unroll", "dropout_bits"),
  *("accumulation", "parallel", "fsdp"),
)


def announced(
  job: TrainingJob, shape: str, compiled: Set[str], say: Callable[[str], None]
) -> contextlib.AbstractContextManager[None]:
  """Calls `say` with one line if the step of a batch is compiled in this context.

  There's no line for a step that comes from the cache or compiles at once. `say` runs
  in another thread, while the step is compiled.

  Args:
    shape: `preview.shape_of` the batch.
    compiled: the shapes of earlier batches; there's no line for these.
  """
  if shape in compiled:
    return contextlib.nullcontext()
  number, planned = len(compiled) + 1, job.batches.planned_shapes
  of_all = f" of {planned}" if number <= planned else ""
  devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
  config = {key: job.config[key] for key in KIND}
  kind = json.dumps([devices, method_name(job.config), config])
  return _announced(f"the train step (shape {number}{of_all})", kind, say)


@contextlib.contextmanager
def _announced(what: str, kind: str, say: Callable[[str], None]) -> Iterator[None]:
  began, said = time.perf_counter(), threading.Event()
  timer: threading.Timer | None = None

  def announce() -> None:
    if not said.is_set():
      said.set()
      seconds = _read().get(kind)
      takes = "may take a minute or more"
      if seconds is not None:
        takes = f"took {seconds:.0f} s the last time"
      say(f"compiling {what}; this {takes}; later runs load it from the cache")

  def listen(event: str, **_: Any) -> None:
    nonlocal timer
    if event in (LOOKUP, HIT) and timer is not None:
      timer.cancel()
    if event == LOOKUP:
      timer = threading.Timer(PATIENCE, announce)
      timer.daemon = True
      timer.start()

  monitoring.register_event_listener(listen)
  try:
    yield
  finally:
    monitoring.unregister_event_listener(listen)
    if timer is not None:
      timer.cancel()
  if said.is_set():
    # If two runs write at once, one of the two times is lost.
    with contextlib.suppress(OSError):
      path = fetch.cache_folder() / RECORD
      write_json(path, _read() | {kind: time.perf_counter() - began})


def _read() -> dict[str, float]:
  try:
    record = json.loads((fetch.cache_folder() / RECORD).read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return {}
  return record if isinstance(record, dict) else {}
