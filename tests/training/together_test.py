"""Processes that fail together, with threads in place of processes."""

import errno
import queue
import threading
import time

import jax
import numpy as np
import pytest
from jax._src import distributed
from jax.experimental import multihost_utils

from ssljax.errors import RunError
from ssljax.training import together

WRITE, COMMIT, END = "_async_write_complete.4", "_async_commit_complete.4", "_end"


class Client:
  """The part of JAX's client that stores keys."""

  def __init__(self):
    self.values = {}
    self._changed = threading.Condition()

  def key_value_set(self, key, value):
    with self._changed:
      assert key not in self.values
      self.values[key] = value
      self._changed.notify_all()

  def blocking_key_value_get(self, key, timeout_ms):
    with self._changed:
      assert self._changed.wait_for(lambda: key in self.values, timeout_ms / 1000)
      return self.values[key]

  def key_value_delete(self, key):
    self.values.pop(key, None)


def save_together(monkeypatch, *plans, log=None):
  """Each process arrives at the barriers of its plan; returns what stopped each.

  `log` gets the numbers of the barriers in a process's plan: when it arrives, and again
  when it has passed.
  """
  local, ends, client = threading.local(), queue.Queue(), Client()
  monkeypatch.setattr(distributed.global_state, "client", client)
  monkeypatch.setattr(jax, "process_count", lambda: len(plans))
  monkeypatch.setattr(jax, "process_index", lambda: local.rank)
  monkeypatch.setattr(together, "_barriers", iter([7] * len(plans)))

  def process(rank):
    local.rank, stopped_at = rank, None
    barrier = together.Barrier()
    for number, key in enumerate(plans[rank]):
      if stopped_at and key != END:
        continue  # as Orbax does after an error
      if log is not None:
        time.sleep(0.005 * rank)  # they arrive at different times
        log.append((number, "arrives"))
      try:
        barrier(key=key, timeout_ms=5000)
        if log is not None:
          log.append((number, "passes"))
      except RuntimeError:
        stopped_at = key
    ends.put((rank, stopped_at))

  threads = [
    threading.Thread(target=process, args=(r,), daemon=True) for r in range(len(plans))
  ]
  for thread in threads:
    thread.start()
  stopped = dict(ends.get(timeout=10) for _ in plans)
  assert len(client.values) <= len(plans)  # a long run doesn't fill the service
  return [stopped[rank] for rank in range(len(plans))]


def test_processes_that_save_pass_all_barriers(monkeypatch):
  plan, log = (WRITE, COMMIT, END) * 3, []
  assert save_together(monkeypatch, plan, plan, plan, log=log) == [None] * 3
  for number in range(len(plan)):  # nobody passes before everybody has arrived
    events = [event for at, event in log if at == number]
    assert events == ["arrives"] * 3 + ["passes"] * 3


@pytest.mark.parametrize(
  ("failed", "others"), [((END,), WRITE), ((WRITE, END), COMMIT)]
)
def test_a_process_that_failed_stops_the_others(monkeypatch, failed, others):
  good = (WRITE, COMMIT, END)
  stopped = save_together(monkeypatch, good, failed, good)
  assert stopped == [others, None, others]


@pytest.mark.parametrize(
  ("sent", "error"), [(errno.ENOSPC, OSError), (-1, RunError), (0, None)]
)
def test_an_error_of_the_first_process_is_raised_in_the_others(
  monkeypatch, sent, error
):
  monkeypatch.setattr(
    multihost_utils, "broadcast_one_to_all", lambda value: np.int32(sent)
  )
  caught = None
  try:
    with together.errors_of_first("metrics.jsonl"):
      pass
  except Exception as raised:
    caught = raised
  assert (caught and type(caught)) is error
  if error is OSError:
    assert (caught.errno, caught.filename) == (errno.ENOSPC, "metrics.jsonl")


def test_the_first_process_raises_its_own_error(monkeypatch):
  sent = []
  monkeypatch.setattr(
    multihost_utils, "broadcast_one_to_all", lambda value: sent.append(value) or value
  )
  for error in (OSError(errno.EFBIG, "too large"), ValueError("a bug")):
    with pytest.raises(type(error)) as caught, together.errors_of_first("file"):
      raise error
    assert caught.value is error
  assert sent == [errno.EFBIG, -1]
