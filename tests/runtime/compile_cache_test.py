"""A compiled program is in the cache as a whole, or isn't there."""

import os
import signal
import subprocess
import sys

import pytest

# Compiles a program and prints whether it came from the cache. With a number, the
# process is killed when a file gets that long.
PROGRAM = """
import pathlib, resource, signal, sys
import jax
from ssljax.runtime import compile_cache

compile_cache.use(pathlib.Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
if len(sys.argv) > 2:
  signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
  resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
jax.jit(lambda x: x * 2 + 1)(1.0)
print("/jax/compilation_cache/cache_hits" in events)
"""


def compile_program(folder, *size):
  return subprocess.run(
    [sys.executable, "-W", "error", "-c", PROGRAM, str(folder), *map(str, size)],
    capture_output=True,
    text=True,
    env={**os.environ, "XLA_FLAGS": ""},
  )


def programs(folder):
  return [path.name for path in folder.glob("*") if not path.name.startswith(".")]


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_stores_a_program_leaves_none(tmp_path):
  killed = compile_program(tmp_path, 100)
  assert killed.returncode == -signal.SIGXFSZ
  assert programs(tmp_path) == []
  for from_cache in (False, True):
    done = compile_program(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{from_cache}\n", "")
  assert len(programs(tmp_path)) == 1
