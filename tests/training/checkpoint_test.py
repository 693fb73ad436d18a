"""Checkpoints: what was saved comes back, and what is damaged is passed over."""

import os
import signal
import subprocess
import sys
import time
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from ssljax.errors import UserError
from ssljax.training.checkpoint import TEMPORARY, Checkpoints
from ssljax.training.pytrees import sha256


class State(NamedTuple):
  step: Any
  params: Any
  opt: Any
  ema: Any
  key: Any


def make(step=0):
  return State(
    step=jnp.int32(step),
    params={
      "kernel": jnp.arange(1200, dtype=jnp.float32).reshape(30, 40) + step,
      "half": jnp.full((8,), step, jnp.bfloat16),
      "none": jnp.zeros((0, 3), jnp.float32),
    },
    opt=({"mu": jnp.ones((5,), jnp.float32)}, ()),
    ema=None,
    key=jax.random.key(step, impl="rbg"),
  )


def abstract(state):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )


@pytest.fixture
def opened(tmp_path):
  """Opens the same folder as often as wanted, as runs after one another do."""
  all_opened = []

  def again() -> Checkpoints:
    for checkpoints in all_opened:
      checkpoints.close()
    all_opened[:] = [Checkpoints(tmp_path / "checkpoints")]
    return all_opened[0]

  yield again
  for checkpoints in all_opened:
    checkpoints.close()


def fill(checkpoints, values):
  for step, value in values.items():
    checkpoints.save(step, make(step), {"step": step}, value)
  checkpoints.wait()


def data_files(folder, step):
  """Files with the arrays' bytes, the largest first."""
  files = [f for f in (folder / "checkpoints" / str(step)).rglob("*") if f.is_file()]
  return sorted(files, key=lambda f: -f.stat().st_size)


def steps(folder):
  return sorted(
    int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit()
  )


def test_what_was_saved_comes_back_in_another_process_life(opened):
  assert opened().restore(abstract(make())) is None
  state = make(7)
  opened().save(7, state, {"best": 0.5, "name": "ü"})
  checkpoints = opened()
  restored, meta, step = checkpoints.restore(abstract(make()))
  assert step == 7
  assert meta == {"best": 0.5, "name": "ü", "state_sha256": sha256(state)}
  assert sha256(restored) == sha256(state)
  assert jax.tree.structure(restored) == jax.tree.structure(state)
  assert restored.key.dtype == state.key.dtype
  np.testing.assert_array_equal(
    jax.random.bits(restored.key, (4,)), jax.random.bits(state.key, (4,))
  )
  for leaf in jax.tree.leaves(restored):
    assert isinstance(leaf, jax.Array)
    assert not getattr(leaf, "weak_type", False)
  assert checkpoints.notes == []


def test_shardings_are_those_asked_for(opened):
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  replicated, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "data"))
  one = SingleDeviceSharding(jax.devices()[0])
  place = lambda state, wide, rest: jax.tree.map(
    lambda x: jax.device_put(x, wide if x.shape == (30, 40) else rest), state
  )
  state = place(make(3), split, replicated)
  assert sha256(state) == sha256(make(3))
  opened().save(3, state, {})
  for wide, rest in [(split, replicated), (one, one)]:
    wanted = abstract(place(make(), wide, rest))
    restored, _, _ = opened().restore(wanted)
    assert sha256(restored) == sha256(state)
    for leaf, want in zip(
      jax.tree.leaves(restored), jax.tree.leaves(wanted), strict=True
    ):
      assert leaf.sharding.is_equivalent_to(want.sharding, leaf.ndim)


def test_arrays_may_be_donated_while_they_are_written(opened):
  donate = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
  state = {"x": jnp.arange(4_000_000, dtype=jnp.float32)}
  expected = sha256(state)
  checkpoints = opened()
  checkpoints.save(1, state, {})
  for _ in range(3):
    state = {"x": donate(state["x"])}
  jax.block_until_ready(state)
  assert sha256(state) != expected
  restored, _, _ = checkpoints.restore(abstract(state))
  assert sha256(restored) == expected


def test_the_latest_two_and_the_best_are_kept(opened, tmp_path):
  checkpoints = opened()
  fill(checkpoints, {1: 0.1, 2: 0.9, 3: None, 4: 0.9, 5: float("nan")})
  assert steps(tmp_path) == [2, 4, 5]  # the earlier of the two best
  assert checkpoints.best_step() == 2
  checkpoints = opened()  # the values are on disk
  assert (checkpoints.best_step(), checkpoints.latest_step()) == (2, 5)
  fill(checkpoints, {6: 0.2, 7: None})
  assert steps(tmp_path) == [2, 6, 7]
  fill(checkpoints, {8: 0.95, 9: None, 10: None})
  assert steps(tmp_path) == [8, 9, 10]
  state, step = checkpoints.restore_best(abstract(make()))
  assert (sha256(state), step) == (sha256(make(8)), 8)


def test_without_a_number_there_is_no_best(opened):
  checkpoints = opened()
  assert checkpoints.best_step() is None
  assert checkpoints.latest_step() is None
  fill(checkpoints, {1: float("nan"), 2: None, 3: float("nan")})
  assert checkpoints.best_step() is None


def truncate(folder, step):
  file = data_files(folder, step)[0]
  os.truncate(file, file.stat().st_size // 2)


def flip(folder, step):
  for file in data_files(folder, step):
    content = bytearray(file.read_bytes())
    if len(content) > 2000:
      content[len(content) // 2] ^= 4
      file.write_bytes(content)
      return
  raise AssertionError("no data file")


def remove(folder, step):
  for file in data_files(folder, step):
    if "meta" in file.parts or file.name == "metadata":
      file.unlink()


def change_meta(folder, step):
  file = folder / "checkpoints" / str(step) / "meta" / "metadata"
  file.write_text(file.read_text().replace('"step": 3', '"step": 8'))


def empty(folder, step):
  for file in data_files(folder, step):
    os.truncate(file, 0)


@pytest.mark.parametrize("damage", [truncate, flip, remove, change_meta, empty])
def test_a_damaged_newest_checkpoint_is_passed_over(opened, tmp_path, damage):
  fill(opened(), {1: 0.95, 2: None, 3: 0.9})
  opened().close()
  before = [f.read_bytes() for f in data_files(tmp_path, 3)]
  damage(tmp_path, 3)
  assert before != [f.read_bytes() for f in data_files(tmp_path, 3)]

  checkpoints = opened()
  restored, meta, step = checkpoints.restore(abstract(make()))
  assert (step, meta["step"]) == (2, 2)
  assert sha256(restored) == sha256(make(2))
  (note,) = checkpoints.notes
  assert "step 3" in note
  assert "\n" not in note
  assert (checkpoints.latest_step(), checkpoints.best_step()) == (2, 1)
  assert 3 in steps(tmp_path)  # reading deletes nothing

  fill(checkpoints, {3: 0.2})  # the run comes by again
  assert steps(tmp_path) == [1, 2, 3]
  assert checkpoints.best_step() == 1
  checkpoints = opened()
  assert checkpoints.restore(abstract(make()))[2] == 3
  assert checkpoints.notes == []


def test_damaged_ones_do_not_count_among_the_latest(opened, tmp_path):
  fill(opened(), {10: None, 20: None})
  opened().close()
  truncate(tmp_path, 20)
  checkpoints = opened()
  assert checkpoints.restore(abstract(make()))[2] == 10
  fill(checkpoints, {15: None})  # not a multiple: a save on SIGTERM
  assert steps(tmp_path) == [10, 15]
  assert checkpoints.latest_step() == 15


def test_a_damaged_best_one_gives_way_to_the_newest(opened, tmp_path):
  fill(opened(), {1: 0.9, 2: None, 3: 0.2})
  opened().close()
  flip(tmp_path, 1)
  checkpoints = opened()
  state, step = checkpoints.restore_best(abstract(make()))
  assert (sha256(state), step) == (sha256(make(3)), 3)
  (note,) = checkpoints.notes
  assert "step 1, the best" in note
  assert "step 3 is used" in note


def test_without_checkpoints_there_is_no_best(opened):
  with pytest.raises(UserError, match="no checkpoint yet"):
    opened().restore_best(abstract(make()))


def test_none_good_is_an_error_that_deletes_nothing(opened, tmp_path):
  fill(opened(), {1: None, 2: None})
  opened().close()
  truncate(tmp_path, 1)
  flip(tmp_path, 2)
  with pytest.raises(UserError, match="none of the 2 checkpoints") as error:
    opened().restore(abstract(make()))
  assert "--workdir" in str(error.value)
  assert steps(tmp_path) == [1, 2]


def test_reads_that_end_late_are_silent_and_nothing_else_is(opened, monkeypatch):
  # Reads of the test before may end before the hook is in place: only what is said
  # here counts.
  heard = []
  monkeypatch.setattr(sys, "unraisablehook", heard.append)
  fill(opened(), {1: None})
  for _ in range(2):
    opened().restore(abstract(make()))
  said = [
    types.SimpleNamespace(exc_value=error)
    for error in (
      RuntimeError("Event loop is closed"),
      Exception("Encountered error while reading array index: (). See full details"),
      RuntimeError("out of paper"),
    )
  ]
  for each in said:
    sys.unraisablehook(each)
  assert [each for each in heard if each in said] == said[2:]


def test_saving_a_step_again_replaces_it(opened):
  checkpoints = opened()
  checkpoints.save(1, make(1), {"n": 1})
  checkpoints.save(1, make(1), {"n": 1})
  checkpoints.save(1, make(2), {"n": 2}, 0.5)
  restored, meta, _ = checkpoints.restore(abstract(make()))
  assert meta["n"] == 2
  assert sha256(restored) == sha256(make(2))
  assert checkpoints.best_step() == 1


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


@pytest.mark.parametrize("moment", [0.0, 0.03])
def test_kill_in_the_middle_of_a_save_leaves_a_good_one(opened, tmp_path, moment):
  folder = tmp_path / "checkpoints"
  child = subprocess.Popen(
    [sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True
  )
  try:
    assert child.stdout.readline() == "first\n"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(folder.glob(f"*{TEMPORARY}*")):
      time.sleep(0.001)
    time.sleep(moment)
  finally:
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
  left = list(folder.glob(f"*{TEMPORARY}*"))
  if not moment:
    assert left  # it was in the middle
  wanted = {
    "x": jax.ShapeDtypeStruct(
      (4_000_000,), jnp.float32, sharding=SingleDeviceSharding(jax.devices()[0])
    )
  }
  checkpoints = opened()
  restored, _, step = checkpoints.restore(wanted)
  assert step >= 1
  assert checkpoints.notes == []
  assert float(restored["x"][0]) == step
  assert list(folder.glob(f"*{TEMPORARY}*")) == left  # a reader deletes nothing
  # Another step than the killed one, whose folder Orbax would take over.
  checkpoints.save(step + 2, restored, {})
  checkpoints.wait()
  assert not list(folder.glob(f"*{TEMPORARY}*"))
  assert opened().restore(wanted)[2] == step + 2
