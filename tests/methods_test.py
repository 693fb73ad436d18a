"""Every method and wrapper passes the checks of `ssljax.testing`.

They are found by their files; there is no list to edit. Some run with a BERT, the
others with an encoder that compiles faster. Also tested here: what is the same for all
methods, with one of them.
"""

import importlib
import itertools

import jax
import numpy as np
import pytest

from ssljax import methods, sharding
from ssljax.models.classifier import NETWORK
from ssljax.testing.checks import CHECKS, assert_close, check_same
from tests import tiny

# Methods that read several heads and mix hidden states. (VAT, which changes embeddings,
# is tested with a BERT in golden/vat_test.py.)
WITH_BERT = ("multimatch", "mixmatch:hidden")


@pytest.fixture(scope="module")
def run(request):
  """Compiled once for all tests of a case."""
  encoder = tiny.BERT if request.param in WITH_BERT else None
  return tiny.tiny_run(request.param, encoder=encoder)


@pytest.mark.parametrize(
  ("run", "check"),
  list(itertools.product(tiny.cases(), CHECKS)),
  indirect=["run"],
  ids=lambda value: getattr(value, "__name__", value),
  scope="module",
)
def test_method(run, check):
  check(run)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
@pytest.mark.parametrize("run", ["fixmatch"], indirect=True, scope="module")
def test_a_second_step_compiles_nothing(run, parallel):
  devices = run.devices(8, parallel)
  state, _ = run.run(range(1), devices=devices)
  compiled = []

  def listen(name, seconds, **_):
    if "backend_compile" in name:
      compiled.append(name)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    jax.jit(lambda x: x * 3)(1.0)
    assert len(compiled) == 1  # the listener works
    state, _ = run.run(range(1, 3), devices=devices, state=state)
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert len(compiled) == 1


@pytest.mark.parametrize(
  "run", ["fixmatch", "jointmatch"], indirect=True, scope="module"
)
def test_sharded_parameters_make_no_difference(run, monkeypatch):
  monkeypatch.setattr(sharding, "MIN_SHARDED_SIZE", 1)
  state, _ = run.run(range(3))
  sharded, _ = run.run(range(3), devices=run.devices(8, fsdp=8))
  for network in (sharded.params, sharded.params.get(f"{NETWORK}0", sharded.params)):
    assert not network["classifier"]["kernel"].sharding.is_fully_replicated
  assert_close(state.params, sharded.params)


@pytest.mark.parametrize(
  "run", ["marginmatch:virtual_class", "multimatch"], indirect=True, scope="module"
)
def test_cut_offs_are_updated_more_than_once(run):
  state, cuts = run.state(), []
  for t in range(12):
    state, _ = run.run(range(t, t + 1), state=state)
    cuts.append(np.array(state.method.cut))
  assert np.isfinite(cuts[-1]).all()
  assert len({cut.tobytes() for cut in cuts}) > 2


@pytest.mark.parametrize("run", ["multimatch"], indirect=True, scope="module")
def test_accumulation_is_exact_under_jit(run):
  accumulated = tiny.tiny_run("multimatch", micro=2, encoder=run.encoder)
  devices = accumulated.devices(4)
  check_same(run.run(range(4)), accumulated.run(range(4), devices=devices))


@pytest.mark.parametrize(
  "run", ["fixmatch", "multimatch"], indirect=True, scope="module"
)
def test_pmap_without_accumulation_agrees(run):
  devices = run.devices(8, "pmap")
  check_same(run.run(range(4)), run.run(range(4), devices=devices))


@pytest.mark.parametrize(
  "layout", [{"packed": False}, {"shared": False}, {"limit": 80}], ids=str
)
@pytest.mark.parametrize(
  "run", ["multimatch", "jointmatch"], indirect=True, scope="module"
)
def test_the_layout_of_the_rows_makes_no_difference(run, layout):
  assert len(run.loader(1).groups) < len(run.loader(1, shared=False).groups)
  state, metrics = run.run(range(4))
  other, other_metrics = run.run(range(4), **layout)
  for name in metrics:
    if "token" not in name:
      assert_close(metrics[name], other_metrics[name])
  assert_close(state.params, other.params)
  assert_close(state.method, other.method)


@pytest.mark.parametrize("name", methods.names())
def test_each_method_has_a_config_of_its_name(name):
  module = importlib.import_module(f"ssljax.configs.{name}")
  for task in ("prompt", "response"):
    config = module.get_config(task)
    assert config.method.name == config.name == name
    methods.make(config.method.to_dict())
