"""Trace: writes a profile of the chosen steps, whatever ends the run."""

import jax
import jax.numpy as jnp
import pytest

from ssljax.training import profiling

STEP = jax.jit(lambda x: x + 1)


def run(folder, count, steps, end=None, notes=None):
  """Runs a loop, to its end or until step `end`; returns the traced steps."""
  x, traced = jnp.zeros(8), []
  notes = [] if notes is None else notes
  settle = lambda: jax.block_until_ready(x)
  trace = profiling.Trace(count, folder, steps, notes.append, settle)
  with trace:
    for t in steps:
      if t == end:
        break
      with trace.step(t):
        traced += [t] if trace._active else []
        x = STEP(x)
  return traced


def files(folder):
  paths = (p for p in (folder / "profile").rglob("*") if p.is_file())
  return {path.name.partition(".")[2]: path for path in paths}


def test_the_trace_is_written(tmp_path):
  notes = []
  assert run(tmp_path, 2, range(9), notes=notes) == [5, 6]
  for suffix in ("xplane.pb", "trace.json.gz"):
    assert files(tmp_path)[suffix].stat().st_size > 100
  assert notes == [f"profile of 2 steps in {tmp_path / 'profile'}"]
  # A signal during the trace ends it, and another process can trace again.
  assert run(tmp_path / "stopped", 3, range(9), end=6) == [5]
  assert files(tmp_path / "stopped")
  assert jax._src.profiler._profile_state.profile_session is None


@pytest.mark.parametrize(
  ("count", "steps", "traced"),
  [(0, range(9), []), (4, range(3, 9), [5, 6, 7, 8]), (4, range(7, 9), [7, 8])],
)
def test_which_steps_are_traced(tmp_path, monkeypatch, count, steps, traced):
  calls = []
  monkeypatch.setattr(jax.profiler, "start_trace", lambda _: calls.append("start"))
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
  assert run(tmp_path, count, steps) == traced
  assert calls == (["start", "stop"] if traced else [])


@pytest.mark.parametrize("call", ["start_trace", "stop_trace"])
def test_a_profiler_that_fails_doesnt_end_the_run(tmp_path, monkeypatch, call):
  def fail(*_):
    raise OSError("No space left on device")

  notes = []
  monkeypatch.setattr(jax.profiler, "start_trace", lambda _: None)
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: None)
  monkeypatch.setattr(jax.profiler, call, fail)
  run(tmp_path, 2, range(9), notes=notes)
  (note,) = notes
  assert note.endswith("no profile (No space left on device); the run continues")
