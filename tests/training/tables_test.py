"""Tables of methods are counted, and can be split over the devices."""

import jax
import pytest

from ssljax import sharding
from ssljax.errors import UserError
from ssljax.testing import checks
from ssljax.testing.tiny import UNLABELLED, TinyRun
from ssljax.training import tables
from tests import tiny

SLOW = [pytest.param(c, marks=pytest.mark.slow) for c in ("marginmatch", "multimatch")]


@pytest.mark.parametrize("case", ["flexmatch", *SLOW])
def test_split_tables_give_the_same_run(case, monkeypatch):
  run, whole = tiny.tiny_run(case), sharding.state_shardings

  def split(state, devices):
    placed = whole(state, devices)
    if devices.shards == 1:
      return placed
    parts = tables.split(placed.method, state.method, run.sizes, devices)
    return placed._replace(method=parts)

  alone = run.run(range(4))
  monkeypatch.setattr(sharding, "state_shardings", split)
  together = run.run(range(4), devices=run.devices(8))
  checks.check_same(alone, together)
  large = [
    leaf for leaf in jax.tree.leaves(together[0].method) if UNLABELLED in leaf.shape
  ]
  for leaf in large:
    assert {part.data.size for part in leaf.addressable_shards} == {leaf.size // 8}
  size = sum(leaf.nbytes for leaf in large)
  assert tables.pool_bytes(run.method, run.sizes) == size > 0


def test_tables_that_cannot_be_split_evenly_are_refused():
  run = TinyRun(tiny.method("flexmatch"))
  sizes = run.sizes._replace(unlabelled=63)
  with pytest.raises(
    UserError, match=r"63 unlabelled texts .* over 8 devices; leave 7"
  ):
    tables.split({}, run.state().method, sizes, run.devices(8))


def test_other_arrays_stay_split_over_fsdp():
  run = TinyRun(tiny.method("flexmatch"))
  devices = sharding.make_devices(fsdp=2, devices=jax.devices()[:8])
  state = {"table": jax.ShapeDtypeStruct((UNLABELLED,), "f4")}
  state["network"] = jax.ShapeDtypeStruct((512, 256), "f4")
  placed = tables.split(
    sharding.state_shardings(state, devices), state, run.sizes, devices
  )
  assert placed["table"].spec == jax.P("data")
  assert placed["network"].spec == jax.P("fsdp")
