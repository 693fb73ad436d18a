"""Saving, restoring, keeping and verifying checkpoints."""

import json
import os
import sys
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from ssljax.errors import UserError
from ssljax.training.checkpoint import Checkpoints, restore_params
from ssljax.training.pytrees import sha256


class State(NamedTuple):
  step: Any
  params: Any
  opt: Any
  ema: Any
  key: Any


def make(step=0, ema=False):
  params = {
    "kernel": jnp.arange(1200, dtype=jnp.float32).reshape(30, 40) + step,
    "half": jnp.full((8,), step, jnp.bfloat16),
    "empty": jnp.zeros((0, 3), jnp.float32),
  }
  return State(
    step=jnp.int32(step),
    params=params,
    opt=({"mu": jnp.ones((5,), jnp.float32)}, ()),
    ema=jax.tree.map(lambda x: x + 1, params) if ema else None,
    key=jax.random.key(step, impl="rbg"),
  )


def abstract(state):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )


@pytest.fixture
def reopen(tmp_path):
  """Closes the checkpoints and opens them again, as the next process would."""
  is_open = []

  def reopen() -> Checkpoints:
    for checkpoints in is_open:
      checkpoints.close()
    is_open[:] = [Checkpoints(tmp_path / "checkpoints")]
    return is_open[0]

  yield reopen
  for checkpoints in is_open:
    checkpoints.close()


def fill(checkpoints, values):
  for step, value in values.items():
    checkpoints.save(step, make(step), {"step": step}, value)
  checkpoints.wait()


def data_files(folder, step):
  """Files of a checkpoint, the largest first: those hold the arrays."""
  files = [f for f in (folder / "checkpoints" / str(step)).rglob("*") if f.is_file()]
  return sorted(files, key=lambda f: -f.stat().st_size)


def steps(folder):
  return sorted(
    int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit()
  )


def test_restore_returns_the_saved_state(reopen):
  assert reopen().restore(abstract(make())) is None
  state = make(7)
  reopen().save(7, state, {"best": 0.5, "name": "ü"})
  checkpoints = reopen()
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


def test_arrays_are_restored_with_the_requested_shardings(reopen):
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  replicated, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "data"))
  one = SingleDeviceSharding(jax.devices()[0])
  place = lambda state, wide, rest: jax.tree.map(
    lambda x: jax.device_put(x, wide if x.shape == (30, 40) else rest), state
  )
  state = place(make(3), split, replicated)
  assert sha256(state) == sha256(make(3))
  reopen().save(3, state, {})
  for wide, rest in [(split, replicated), (one, one)]:
    wanted = abstract(place(make(), wide, rest))
    restored, _, _ = reopen().restore(wanted)
    assert sha256(restored) == sha256(state)
    for leaf, want in zip(
      jax.tree.leaves(restored), jax.tree.leaves(wanted), strict=True
    ):
      assert leaf.sharding.is_equivalent_to(want.sharding, leaf.ndim)


def test_arrays_may_be_donated_during_a_save(reopen):
  donate = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
  state = {"x": jnp.arange(4_000_000, dtype=jnp.float32)}
  expected = sha256(state)
  checkpoints = reopen()
  checkpoints.save(1, state, {})
  for _ in range(3):
    state = {"x": donate(state["x"])}
  jax.block_until_ready(state)
  assert sha256(state) != expected
  restored, _, _ = checkpoints.restore(abstract(state))
  assert sha256(restored) == expected


def test_keeps_the_latest_two_and_the_best(reopen, tmp_path):
  checkpoints = reopen()
  fill(checkpoints, {1: 0.1, 2: 0.9, 3: None, 4: 0.9, 5: float("nan")})
  assert steps(tmp_path) == [2, 4, 5]  # of equal values, the earlier step is best
  assert checkpoints.best_step() == 2
  checkpoints = reopen()  # the values are on disk
  assert (checkpoints.best_step(), checkpoints.latest_step()) == (2, 5)
  fill(checkpoints, {6: 0.2, 7: None})
  assert steps(tmp_path) == [2, 6, 7]
  fill(checkpoints, {8: 0.95, 9: None, 10: None})
  assert steps(tmp_path) == [8, 9, 10]
  state, step = checkpoints.restore_best(abstract(make()))
  assert (sha256(state), step) == (sha256(make(8)), 8)


def test_undefined_values_are_never_the_best(reopen):
  checkpoints = reopen()
  assert (checkpoints.best_step(), checkpoints.latest_step()) == (None, None)
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
  raise AssertionError("no data file to damage")


def remove(folder, step):
  for file in data_files(folder, step):
    if "meta" in file.parts or file.name == "metadata":
      file.unlink()


def change_meta(folder, step):
  file = folder / "checkpoints" / str(step) / "meta" / "metadata"
  file.write_text(file.read_text().replace(f'"step": {step}', '"step": 8'))


def empty(folder, step):
  for file in data_files(folder, step):
    os.truncate(file, 0)


@pytest.mark.parametrize("damage", [truncate, flip, remove, change_meta, empty])
def test_a_damaged_latest_checkpoint_is_skipped(reopen, tmp_path, damage):
  fill(reopen(), {1: 0.95, 2: None, 4: 0.9})
  reopen().close()
  before = [f.read_bytes() for f in data_files(tmp_path, 4)]
  damage(tmp_path, 4)
  assert before != [f.read_bytes() for f in data_files(tmp_path, 4)]

  checkpoints = reopen()
  restored, meta, step = checkpoints.restore(abstract(make()))
  assert (step, meta["step"]) == (2, 2)
  assert sha256(restored) == sha256(make(2))
  (note,) = checkpoints.notes
  assert "step 4" in note
  assert "using step 2" in note
  assert "\n" not in note
  assert (checkpoints.latest_step(), checkpoints.best_step()) == (2, 1)
  assert 4 in steps(tmp_path)  # reading deletes nothing

  fill(checkpoints, {3: None})  # saved because of a signal
  assert steps(tmp_path) == [1, 2, 3]
  assert checkpoints.latest_step() == 3
  fill(checkpoints, {4: 0.2})  # the resumed run saves the step again
  assert steps(tmp_path) == [1, 3, 4]
  assert checkpoints.best_step() == 1
  checkpoints = reopen()
  assert checkpoints.restore(abstract(make()))[2] == 4
  assert checkpoints.notes == []


def test_a_damaged_best_checkpoint_falls_back_to_the_latest(reopen, tmp_path):
  fill(reopen(), {1: 0.9, 2: None, 3: 0.2})
  reopen().close()
  flip(tmp_path, 1)
  checkpoints = reopen()
  state, step = checkpoints.restore_best(abstract(make()))
  assert (sha256(state), step) == (sha256(make(3)), 3)
  (note,) = checkpoints.notes
  assert "the best checkpoint, of step 1" in note
  assert "using step 3" in note


def from_saved(named):
  """Rebuilds a `State`, whose empty arrays and typed key aren't stored as such."""
  params = lambda saved: saved and saved | {"empty": np.zeros((0, 3), np.float32)}
  key = jax.random.wrap_key_data(named["key"], impl="rbg")
  ema = params(named.get("ema"))
  return State(named["step"], params(named["params"]), named["opt"], ema, key)


def unused(named):
  raise AssertionError("read the whole state")


def remove_params_sha256(folder, step):
  """Makes a checkpoint as version 0.1.0 wrote it."""
  path = folder / "checkpoints" / str(step) / "meta" / "metadata"
  record = json.loads(path.read_text())
  assert record.pop("params_sha256")
  path.write_text(json.dumps(record))


def assert_same(params, state):
  """`params` are those of a state; empty arrays aren't stored."""
  expected = {name: value for name, value in state.items() if value.size}
  assert params.keys() == expected.keys()
  for name, value in expected.items():
    assert isinstance(params[name], np.ndarray)
    assert params[name].dtype == value.dtype
    np.testing.assert_array_equal(params[name], value)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("ema", [False, True])
def test_restore_params_reads_the_best_step(reopen, tmp_path, ema, old):
  checkpoints = reopen()
  for step, value in {1: 0.9, 2: None, 3: 0.2}.items():
    checkpoints.save(step, make(step, ema), {}, value)
  checkpoints.close()
  if old:
    remove_params_sha256(tmp_path, 1)
  step, params, notes = restore_params(
    tmp_path / "checkpoints", from_saved if old else unused
  )
  assert (step, notes) == (1, [])
  assert_same(params, make(1, ema).ema if ema else make(1).params)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("damage", [truncate, flip, remove, change_meta, empty])
def test_restore_params_falls_back_as_restore_best_does(reopen, tmp_path, damage, old):
  fill(reopen(), {3: 0.9, 4: None, 5: 0.2})
  reopen().close()
  if old:
    for step in (3, 4, 5):
      remove_params_sha256(tmp_path, step)
  damage(tmp_path, 3)
  step, params, notes = restore_params(
    tmp_path / "checkpoints", from_saved if old else unused
  )
  checkpoints = reopen()
  state, expected = checkpoints.restore_best(abstract(make()))
  assert (step, len(notes)) == (expected, len(checkpoints.notes))
  assert step == 5
  assert_same(params, state.params)


def test_without_checkpoints_there_is_nothing_to_restore(reopen, tmp_path):
  with pytest.raises(UserError, match="no checkpoint yet"):
    restore_params(tmp_path / "checkpoints", unused)
  assert not (tmp_path / "checkpoints").exists()
  with pytest.raises(UserError, match="no checkpoint yet"):
    reopen().restore_best(abstract(make()))


def test_an_error_if_all_checkpoints_are_damaged_and_none_is_deleted(reopen, tmp_path):
  fill(reopen(), {1: None, 2: None})
  reopen().close()
  truncate(tmp_path, 1)
  flip(tmp_path, 2)
  with pytest.raises(UserError, match="none of the 2 checkpoints") as error:
    reopen().restore(abstract(make()))
  assert "--workdir" in str(error.value)
  assert steps(tmp_path) == [1, 2]


def test_only_the_errors_of_abandoned_reads_are_silenced(reopen, monkeypatch):
  # Abandoned reads of an earlier test may report as well, so look at these errors only.
  reported = []
  monkeypatch.setattr(sys, "unraisablehook", reported.append)
  fill(reopen(), {1: None})
  for _ in range(2):
    reopen().restore(abstract(make()))
  errors = [
    types.SimpleNamespace(exc_value=error)
    for error in (
      RuntimeError("Event loop is closed"),
      Exception("Encountered error while reading array index: (). See full details"),
      RuntimeError("out of paper"),
    )
  ]
  for error in errors:
    sys.unraisablehook(error)
  assert [error for error in reported if error in errors] == errors[2:]


def test_saving_a_step_again_replaces_it(reopen):
  checkpoints = reopen()
  checkpoints.save(1, make(1), {"n": 1})
  checkpoints.save(1, make(2), {"n": 2}, 0.5)
  restored, meta, _ = checkpoints.restore(abstract(make()))
  assert meta["n"] == 2
  assert sha256(restored) == sha256(make(2))
  assert checkpoints.best_step() == 1
