"""One battery over every method: what must hold whatever the method is.

A method is tested by its file being there; no list is edited.
"""

import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import methods, sharding
from ssljax.method import Clock
from ssljax.models.forward import ModelForward
from tests import tiny

made = functools.cache(tiny.Tiny)  # for the tests of one method only


@pytest.fixture(scope="module", params=tiny.cases())
def case(request):
  return request.param


@pytest.fixture(scope="module")
def tiny_run(case):
  """Compiled once for all tests of a case, and forgotten before the next one."""
  yield tiny.Tiny(case)
  jax.clear_caches()


def leaves(tree):
  return jax.tree.leaves_with_path(tiny.host(tree))


def assert_close(a, b, tolerance):
  for (path, x), (_, y) in zip(leaves(a), leaves(b), strict=True):
    # Infinite cut-offs agree if both are infinite.
    np.testing.assert_allclose(
      x, y, rtol=tolerance, atol=tolerance, err_msg=jax.tree_util.keystr(path)
    )


def assert_same_bits(a, b):
  for (path, x), (_, y) in zip(leaves(a), leaves(b), strict=True):
    assert x.dtype == y.dtype
    assert x.tobytes() == y.tobytes(), jax.tree_util.keystr(path)


def test_the_state_is_strongly_typed_and_keeps_its_tree_shapes_and_dtypes(tiny_run):
  state = tiny_run.state()
  carried = tiny_run.method.init(tiny_run.sizes)
  assert not any(jnp.asarray(leaf).weak_type for leaf in jax.tree.leaves(carried))
  after, _ = tiny_run.run(range(2))
  before = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state)
  assert jax.tree.structure(before) == jax.tree.structure(after)
  for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_one_compilation_for_each_shape_of_batch(tiny_run):
  batches = tiny_run.loader(1)
  shapes = {str(jax.tree.map(np.shape, batches.batch(t)[0])) for t in range(tiny.STEPS)}
  tiny_run.run(range(tiny.STEPS))
  assert tiny_run.step(tiny_run.devices())._cache_size() <= len(shapes) <= 3


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_a_second_step_compiles_nothing(parallel):
  tiny_run = made("fixmatch")
  devices = tiny_run.devices(8, parallel)
  state, _ = tiny_run.run(range(1), devices=devices)
  compiled = []

  def listen(name, seconds, **_):
    if "backend_compile" in name:
      compiled.append(name)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    jax.jit(lambda x: x * 3)(1.0)
    assert len(compiled) == 1  # that is what is counted
    state, _ = tiny_run.run(range(1, 3), devices=devices, state=state)
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert len(compiled) == 1


def test_what_stands_in_the_padding_changes_nothing(tiny_run):
  rng = np.random.default_rng(7)

  def scribbled(batch):
    def rows(r):
      noise = rng.integers(5, tiny.VOCABULARY, r.ids.shape).astype(np.int32)
      return r._replace(
        ids=np.where(r.segment == 0, noise, r.ids),
        kind=np.where(r.segment == 0, 1, r.kind).astype(np.int32),
      )

    def part(p):
      return p._replace(
        views={
          name: view._replace(rows=tuple(map(rows, view.rows)))
          for name, view in p.views.items()
        }
      )

    return batch._replace(
      labelled=part(batch.labelled), unlabelled=part(batch.unlabelled)
    )

  clean, _ = tiny_run.run(range(3))
  other, _ = tiny_run.run(range(3), change=scribbled)
  assert_same_bits(clean, other)


def test_the_order_of_the_rows_changes_nothing_but_float_noise(tiny_run):
  devices = tiny_run.devices()

  def run(order):
    batches = tiny_run.loader(1)
    plain = batches.unlabelled_order, batches.labelled_order
    batches.unlabelled_order = lambda t: [a[::order] for a in plain[0](t)]
    batches.labelled_order = lambda t: [a[::order] for a in plain[1](t)]
    state = tiny_run.state()
    for t in range(2):
      batch, hidden = batches.batch(t)
      placed = sharding.put_batch(batch, hidden, devices)
      state, metrics = tiny_run.step(devices)(state, *placed)
    return state.method, metrics

  assert_close(run(1), run(-1), 2e-4)


def test_unlabelled_texts_are_learned_from(case, tiny_run):
  if not tiny_run.method.needs.views:
    return
  state, seen, cuts = tiny_run.state(), [], []
  for t in range(tiny.STEPS // 2):
    state, metrics = tiny_run.run(range(t, t + 1), state=state)
    seen.append(metrics["unlabelled"])
    cuts.append(np.array(getattr(state.method, "cut", 0.0)))
  assert sum(loss > 0 for loss in seen) > len(seen) // 2
  # Cut-offs that a method computes are computed, and more than once.
  if case in ("multimatch", "marginmatch:virtual_class"):
    assert np.isfinite(cuts[-1]).all()
    assert len({cut.tobytes() for cut in cuts}) > 2


@pytest.mark.parametrize(("count", "parallel", "fsdp"), [(8, "jit", 1), (8, "pmap", 1)])
def test_one_device_equals_eight(tiny_run, count, parallel, fsdp):
  one, metrics = tiny_run.run(range(4))
  devices = tiny_run.devices(count, parallel, fsdp)
  many, others = tiny_run.run(range(4), devices=devices)
  assert_close(metrics, others, 2e-4)
  assert_close(one.method, many.method, 2e-4)
  assert_close(one.params, many.params, 2e-4)


def test_targets_are_distributions_without_gradient_and_weights_are_sound(tiny_run):
  state, _ = tiny_run.run(range(tiny.EPOCH_STEPS))  # a first epoch, for the cut-offs
  batch = jax.tree.map(jnp.asarray, tiny_run.loader(1).batch(3)[0])
  clock = Clock(
    jnp.int32(3), jnp.float32(3 / tiny.STEPS), jnp.int32(1), jax.random.key(0)
  )

  def drawn(params):
    forward = ModelForward(tiny_run.model, params, state.ema)
    assigned = tiny_run.method.loss(forward, batch, state.method, clock)[2]
    total = (assigned.target**2).sum() + assigned.weight.sum()
    return total, assigned

  gradient, assigned = jax.jit(jax.grad(drawn, has_aux=True))(state.params)
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))
  np.testing.assert_allclose(assigned.target.sum(-1), 1.0, rtol=1e-6)
  assert np.isfinite(assigned.weight).all()
  assert (assigned.weight >= 0).all()


def test_restored_and_continued_is_the_same_to_the_bit(tiny_run):
  straight, _ = tiny_run.run(range(4))
  half, _ = tiny_run.run(range(2))
  kept = tiny.host(half)
  kept = kept._replace(key=jax.random.wrap_key_data(kept.key, impl="rbg"))
  devices = tiny_run.devices()
  state = sharding.put(kept, sharding.state_shardings(kept, devices))
  assert_same_bits(straight, tiny_run.run(range(2, 4), state=state)[0])


def test_hidden_labels_reach_the_metrics_only(tiny_run):
  devices = tiny_run.devices()
  states = []
  for hide in (False, True):
    batch, hidden = tiny_run.loader(1).batch(0)
    hidden = np.full_like(hidden, -1) if hide else hidden
    placed = sharding.put_batch(batch, hidden, devices)
    states.append(tiny_run.step(devices)(tiny_run.state(), *placed)[0])
  assert_same_bits(*states)


def test_accumulation_is_exact(case, tiny_run):
  if tiny_run.method.assign is None:
    with pytest.raises(ValueError, match="spans the batch"):
      tiny.Tiny(case, micro=2).run(range(1))
    return
  small = tiny.Tiny(case, micro=2)
  whole, metrics = tiny_run.run(range(4))
  parts, others = small.run(range(4))
  assert_close(metrics, others, 2e-4)
  assert_close(whole.params, parts.params, 2e-4)
  assert_close(whole.method, parts.method, 2e-4)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_accumulation_is_exact_on_several_devices(parallel):
  whole, metrics = made("multimatch").run(range(4))
  small = tiny.Tiny("multimatch", micro=2)
  parts, others = small.run(range(4), devices=small.devices(4, parallel))
  assert_close(metrics, others, 2e-4)
  assert_close(whole.params, parts.params, 2e-4)
  assert_close(whole.method, parts.method, 2e-4)


@pytest.mark.parametrize(
  "layout", [{"packed": False}, {"lengths": (16, 32)}, {"lengths": (48,)}], ids=str
)
def test_how_the_rows_are_laid_changes_nothing_but_float_noise(layout):
  one, metrics = made("multimatch").run(range(4))
  other, others = tiny.Tiny("multimatch").run(range(4), **layout)
  same = {name: value for name, value in metrics.items() if "token" not in name}
  assert_close(same, {name: others[name] for name in same}, 2e-4)
  assert_close(one.params, other.params, 2e-4)
  assert_close(one.method, other.method, 2e-4)


@pytest.mark.parametrize("name", methods.names())
def test_each_method_has_a_config_of_its_name(name):
  path = Path(__file__).parent.parent / "configs" / f"{name}.py"
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  for task in ("prompt", "response"):
    config = module.get_config(task)
    assert config.method.name == config.name == name
    methods.make(config.method.to_dict())


def test_parameters_cut_up_over_fsdp_change_nothing(monkeypatch):
  monkeypatch.setattr(sharding, "LARGE", 1)
  tiny_run = tiny.Tiny("fixmatch")
  one, _ = tiny_run.run(range(3))
  many, _ = tiny_run.run(range(3), devices=tiny_run.devices(2, fsdp=2))
  kernel = many.params["classifier"]["kernel"]
  assert not kernel.sharding.is_fully_replicated
  assert_close(one.params, many.params, 2e-4)
