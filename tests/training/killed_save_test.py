"""A save that is killed leaves an unfinished folder and the checkpoints before it."""

import contextlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from ssljax.training.checkpoint import Checkpoints

UNFINISHED = "*.orbax-checkpoint-tmp*"
CHILD = """
import sys
from pathlib import Path
import jax.numpy as jnp
from ssljax.training.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
make = lambda step: {"x": jnp.full((4_000_000,), step, jnp.float32) + jnp.arange(4e6)}
checkpoints.save(1, make(1), {})
checkpoints.wait()
print("first", flush=True)
for step in range(2, 1000):
  checkpoints.save(step, make(step), {"step": step})
"""


def opened(folder, clean=False):
  return contextlib.closing(Checkpoints(folder, clean))


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.0, 0.03])
def test_a_save_that_is_killed_leaves_a_good_checkpoint(tmp_path, moment):
  folder = tmp_path / "checkpoints"
  child = subprocess.Popen(
    [sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True
  )
  try:
    assert child.stdout.readline() == "first\n"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(folder.glob(UNFINISHED)):
      time.sleep(0.001)
    time.sleep(moment)
  finally:
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
  leftovers = list(folder.glob(UNFINISHED))
  if not moment:
    assert leftovers  # it was killed during a save
  one = SingleDeviceSharding(jax.devices()[0])
  wanted = {"x": jax.ShapeDtypeStruct((4_000_000,), jnp.float32, sharding=one)}
  with opened(folder) as checkpoints:
    restored, _, step = checkpoints.restore(wanted)
    assert checkpoints.notes == []
  assert step >= 1
  assert float(restored["x"][0]) == step
  assert list(folder.glob(UNFINISHED)) == leftovers  # reading deletes nothing
  with opened(folder, clean=True) as checkpoints:
    # Not the step that was killed: Orbax would reuse its folder.
    checkpoints.save(step + 2, restored, {})
    checkpoints.wait()
    assert not list(folder.glob(UNFINISHED))
  with opened(folder) as checkpoints:
    assert checkpoints.restore(wanted)[2] == step + 2
