"""What must hold for every method, checked on a tiny model.

None of this says whether a method is the one in its paper: see docs/adding-a-method.md.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ssljax import sharding
from ssljax.batch import Batch
from ssljax.method import Clock, Method, Outputs
from ssljax.models.forward import ModelForward
from ssljax.testing import tiny
from ssljax.testing.tiny import TinyRun

TOLERANCE = 2e-4  # for results that may differ in the order of their sums
DEVICES = 8


def check_method(make: Callable[..., Method], **keywords) -> None:
  """Runs all `CHECKS` on `make(**keywords)`; about a minute on a CPU.

    def test_my_method():
      check_method(my_method.make, threshold=0.4)

  The model is untrained and has three classes: choose keywords with which some texts
  pass thresholds. Needs eight devices; on a CPU, before JAX starts, set
  XLA_FLAGS=--xla_force_host_platform_device_count=8.

  Raises:
    AssertionError: a check failed; its name is in the traceback.
    RuntimeError: there are fewer devices.
  """
  if jax.device_count() < DEVICES:
    raise RuntimeError(
      f"check_method needs {DEVICES} devices, not {jax.device_count()}; set "
      f"XLA_FLAGS=--xla_force_host_platform_device_count={DEVICES} before JAX starts"
    )
  run = TinyRun(make(**keywords))
  for check in CHECKS:
    check(run)


def state_keeps_its_structure(run: TinyRun) -> None:
  """The state is strongly typed, and a step keeps its tree, shapes and dtypes."""
  initial = run.method.init(run.sizes)
  for path, leaf in jax.tree.leaves_with_path(initial):
    assert not jnp.asarray(leaf).weak_type, (
      f"{jax.tree_util.keystr(path)} is weakly typed; give it an explicit dtype"
    )
  before = jax.tree.map(lambda a: (a.shape, a.dtype), run.state())
  after, _ = run.run(range(2))
  assert before == jax.tree.map(lambda a: (a.shape, a.dtype), after)


def each_batch_shape_compiles_once(run: TinyRun) -> None:
  """There are no more compilations than shapes of batches."""
  batches, steps = run.loader(1), range(4)
  shapes = {str(jax.tree.map(np.shape, batches.batch(t)[0])) for t in steps}
  run.run(steps)
  assert run.step(run.devices())._cache_size() <= len(shapes)


def padding_is_ignored(run: TinyRun) -> None:
  """Random tokens in the padding change no bit."""
  rng = np.random.default_rng(7)

  def fill_padding(batch):
    def fill_rows(rows):
      noise = rng.integers(5, tiny.VOCABULARY, rows.ids.shape).astype(np.int32)
      return rows._replace(
        ids=np.where(rows.segment == 0, noise, rows.ids),
        kind=np.where(rows.segment == 0, 1, rows.kind).astype(np.int32),
      )

    def fill_views(part):
      return part._replace(
        views={
          name: view._replace(rows=tuple(map(fill_rows, view.rows)))
          for name, view in part.views.items()
        }
      )

    return batch._replace(
      labelled=fill_views(batch.labelled), unlabelled=fill_views(batch.unlabelled)
    )

  clean, _ = run.run(range(3))
  filled, _ = run.run(range(3), change=fill_padding)
  assert_identical(clean, filled)


def row_order_is_ignored(run: TinyRun) -> None:
  """The order of the texts in a batch makes no difference."""
  devices, batches = run.devices(), run.loader(1)

  def reverse(part):
    views = {
      name: view._replace(where=view.where[:, ::-1])
      for name, view in part.views.items()
    }
    return jax.tree.map(lambda a: a[::-1], part._replace(views={}))._replace(
      views=views
    )

  def results(reversed_order):
    state = run.state()
    for t in range(2):
      batch, hidden = batches.batch(t)
      if reversed_order:
        batch, hidden = Batch(*map(reverse, batch)), hidden[::-1]
      placed = sharding.put_batch(batch, hidden, devices)
      state, metrics = run.step(devices)(state, *placed)
    return state.method, metrics

  assert_close(results(False), results(True))


def unlabelled_texts_are_used(run: TinyRun) -> None:
  """The loss of the unlabelled texts is above 0 in most steps."""
  if not run.method.needs.views:
    return
  state, losses = run.state(), []
  for t in range(10):
    state, metrics = run.run(range(t, t + 1), state=state)
    losses.append(float(metrics["unlabelled"]))
  assert sum(loss > 0 for loss in losses) > len(losses) // 2, (
    f"losses of the unlabelled texts: {losses}; is a threshold too high?"
  )


def targets_are_sound(run: TinyRun) -> None:
  """Targets are distributions without gradient; weights are finite and 0 or more."""
  state, _ = run.run(range(tiny.EPOCH_STEPS))  # some methods start after an epoch
  batch = jax.tree.map(jnp.asarray, run.loader(1).batch(3)[0])
  clock = Clock(
    jnp.int32(3), jnp.float32(3 / tiny.STEPS), jnp.int32(1), jax.random.key(0)
  )

  def total(params):
    forward = ModelForward(run.model, params, state.ema)
    assigned = run.method.loss(forward, batch, state.method, clock)[2]
    return (assigned.target**2).sum() + assigned.weight.sum(), assigned

  gradient, assigned = jax.jit(jax.grad(total, has_aux=True))(state.params)
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient)), (
    "targets or weights have a gradient; use jax.lax.stop_gradient"
  )
  np.testing.assert_allclose(assigned.target.sum(-1), 1.0, rtol=1e-6)
  assert np.isfinite(assigned.weight).all(), "some weights are not finite"
  assert (assigned.weight >= 0).all(), "some weights are negative"


def predict_reads_the_head_it_declares(run: TinyRun) -> None:
  """`predict` returns logits of the C classes from `needs.predicts` alone."""
  rng, needs = np.random.default_rng(0), run.method.needs
  classes, width = tiny.CLASSES + needs.virtual_classes, run.sizes.width
  draw = lambda *shape: jnp.asarray(rng.standard_normal((4, *shape)), jnp.float32)
  heads = {}
  for name, head in needs.heads.items():
    if head.kind == "classifier":
      heads[name] = draw(head.count, classes)
    else:
      heads[name] = draw(
        head.width or (width if head.kind == "projection" else classes)
      )
  outputs = Outputs(draw(classes), draw(width), heads)
  logits = run.method.predict(outputs)
  assert logits.shape == (4, tiny.CLASSES)
  changed = {"classifier": outputs._replace(logits=outputs.logits + draw(classes))}
  for name, head in heads.items():
    other = {**heads, name: head + draw(*head.shape[1:])}
    changed[name] = outputs._replace(heads=other)
  for name, other in changed.items():
    reads = not np.array_equal(run.method.predict(other), logits)
    assert reads == (name == needs.predicts), (
      f"predict {'reads' if reads else 'does not read'} the head {name!r}, but "
      f"Needs.predicts is {needs.predicts!r}"
    )


def restored_state_continues_exactly(run: TinyRun) -> None:
  """Saving and restoring the state between steps changes no bit."""
  straight, _ = run.run(range(4))
  half, _ = run.run(range(2))
  saved = tiny.to_numpy(half)
  saved = saved._replace(key=jax.random.wrap_key_data(saved.key, impl="rbg"))
  devices = run.devices()
  state = sharding.put(saved, sharding.state_shardings(saved, devices))
  assert_identical(straight, run.run(range(2, 4), state=state)[0])


def hidden_labels_are_not_used(run: TinyRun) -> None:
  """The true labels of unlabelled texts reach the metrics only."""
  devices = run.devices()
  states = []
  for hide in (False, True):
    batch, hidden = run.loader(1).batch(0)
    hidden = np.full_like(hidden, -1) if hide else hidden
    placed = sharding.put_batch(batch, hidden, devices)
    states.append(run.step(devices)(run.state(), *placed)[0])
  assert_identical(*states)


def jit_on_eight_devices_agrees(run: TinyRun) -> None:
  """Eight devices under jit give the results of one."""
  _check_devices(run, "jit")


def pmap_on_eight_devices_agrees(run: TinyRun) -> None:
  """Eight devices under pmap give the results of one."""
  _check_devices(run, "pmap")


def _check_devices(run: TinyRun, parallel: str) -> None:
  state, metrics = run.run(range(4))
  other, other_metrics = run.run(range(4), devices=run.devices(DEVICES, parallel))
  assert_close(metrics, other_metrics)
  assert_close(state.method, other.method)
  assert_close(state.params, other.params)


def accumulation_is_exact(run: TinyRun) -> None:
  """Micro-batches give the results of the whole batch, or are refused."""
  accumulated = TinyRun(run.method, micro=2)
  if run.method.assign is None:
    try:
      accumulated.run(range(1))
    except ValueError:
      return
    raise AssertionError("micro-batches were not refused")
  state, metrics = run.run(range(4))
  other, other_metrics = accumulated.run(range(4))
  assert_close(metrics, other_metrics)
  assert_close(state.params, other.params)
  assert_close(state.method, other.method)


CHECKS: tuple[Callable[[TinyRun], None], ...] = (
  state_keeps_its_structure,
  each_batch_shape_compiles_once,
  padding_is_ignored,
  row_order_is_ignored,
  unlabelled_texts_are_used,
  targets_are_sound,
  predict_reads_the_head_it_declares,
  restored_state_continues_exactly,
  hidden_labels_are_not_used,
  jit_on_eight_devices_agrees,
  pmap_on_eight_devices_agrees,
  accumulation_is_exact,
)


def assert_close(a, b, tolerance: float = TOLERANCE) -> None:
  """Two trees agree within the tolerance; infinities must be the same."""
  pairs = zip(_leaves(a), _leaves(b), strict=True)
  for (path, x), (_, y) in pairs:
    np.testing.assert_allclose(
      x, y, rtol=tolerance, atol=tolerance, err_msg=jax.tree_util.keystr(path)
    )


def assert_identical(a, b) -> None:
  """Two trees agree in every bit."""
  for (path, x), (_, y) in zip(_leaves(a), _leaves(b), strict=True):
    assert x.dtype == y.dtype
    assert x.tobytes() == y.tobytes(), jax.tree_util.keystr(path)


def _leaves(tree):
  return jax.tree.leaves_with_path(tiny.to_numpy(tree))
