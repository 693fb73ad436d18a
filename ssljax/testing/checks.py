"""Checks that every method must pass, on a tiny model.

The checks can't tell whether a method agrees with its paper: see
docs/adding-a-method.md.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ssljax import sharding
from ssljax.batch import Rows, Texts
from ssljax.method import Clock, Method
from ssljax.models.forward import ModelForward
from ssljax.testing import tiny
from ssljax.testing.tiny import TinyRun

TOLERANCE = 2e-4  # for results whose sums may be computed in another order
DEVICES = 8


def check_method(make: Callable[..., Method], **keywords) -> None:
  """Runs all `CHECKS` on `make(**keywords)`; takes about a minute on a CPU.

    def test_my_method():
      check_method(my_method.make, threshold=0.4)

  The model is untrained and has three classes, so choose keywords that let some texts
  pass the thresholds. The checks need eight devices. On a CPU, set
  XLA_FLAGS=--xla_force_host_platform_device_count=8 before JAX starts.

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
  before, (after, _) = run.state(), run.run(range(2))
  before, after = jax.tree.map(lambda a: (a.shape, a.dtype), (before, after))
  assert before == after


def each_batch_shape_compiles_once(run: TinyRun) -> None:
  """Batches of the same shape are compiled only once."""
  run.run(range(4))
  devices = run.devices()
  # Earlier checks may have run more steps, with other shapes.
  assert run.step(devices)._cache_size() == len(run.shapes[devices])


def padding_is_ignored(run: TinyRun) -> None:
  """Random tokens in the padding change no bit of the state."""
  rng = np.random.default_rng(7)

  def fill_padding(leaf):
    if not isinstance(leaf, Rows):
      return leaf
    noise = rng.integers(5, tiny.VOCABULARY, leaf.ids.shape).astype(np.int32)
    return leaf._replace(
      ids=np.where(leaf.segment == 0, noise, leaf.ids),
      kind=np.where(leaf.segment == 0, 1, leaf.kind).astype(np.int32),
    )

  is_rows = lambda node: isinstance(node, Rows)
  change = lambda batch: jax.tree.map(fill_padding, batch, is_leaf=is_rows)
  assert_identical(run.run(range(3))[0], run.run(range(3), change=change)[0])


def row_order_is_ignored(run: TinyRun) -> None:
  """The order of the texts in a batch makes no difference."""

  def reverse(leaf):
    if isinstance(leaf, Texts):
      return leaf._replace(where=leaf.where[:, ::-1])
    return leaf[::-1]

  is_texts = lambda node: isinstance(node, Texts)
  change = lambda batch: jax.tree.map(reverse, batch, is_leaf=is_texts)
  state, metrics = run.run(range(2))
  other, other_metrics = run.run(range(2), change=change)
  assert_close((state.method, metrics), (other.method, other_metrics))


def unlabelled_texts_are_used(run: TinyRun) -> None:
  """The loss of the unlabelled texts is above 0 in most steps."""
  if not run.method.needs.views:
    return
  state, losses = None, []
  for t in range(10):
    state, metrics = run.run(range(t, t + 1), state)
    losses.append(float(metrics["unlabelled"]))
  assert sum(loss > 0 for loss in losses) > len(losses) // 2, (
    f"losses of the unlabelled texts: {losses}; is a threshold too high?"
  )


def targets_are_sound(run: TinyRun) -> None:
  """Targets are distributions without gradient; weights are finite and at least 0."""
  state, _ = run.run(range(tiny.EPOCH_STEPS))  # some methods start after an epoch
  batch = jax.tree.map(jnp.asarray, run.loader(1).batch(3)[0]).with_shared_rows()
  clock = Clock(
    jnp.int32(3),
    jnp.float32(3 / tiny.STEPS),
    jnp.int32(1),
    jax.random.key(0),
    tiny.STEPS,
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
  """`predict` returns logits of the C classes; it reads only head `needs.predicts`."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
  features = draw(4, run.sizes.width)
  outputs = run.model.apply({"params": run.params}, features, method="classify")
  logits = run.method.predict(outputs)
  assert logits.shape == (4, tiny.CLASSES)
  other = outputs.logits + draw(*outputs.logits.shape)
  changed = {"classifier": outputs._replace(logits=other)}
  for name, head in outputs.heads.items():
    heads = {**outputs.heads, name: head + draw(*head.shape)}
    changed[name] = outputs._replace(heads=heads)
  predicts = run.method.needs.predicts
  for name, other in changed.items():
    reads = not np.array_equal(run.method.predict(other), logits)
    assert reads == (name == predicts), (
      f"predict {'reads' if reads else 'does not read'} the head {name!r}, but "
      f"Needs.predicts is {predicts!r}"
    )


def restored_state_continues_exactly(run: TinyRun) -> None:
  """Saving and restoring the state between steps changes no bit of later states."""
  straight, _ = run.run(range(4))
  half, _ = run.run(range(2))
  saved = tiny.to_numpy(half)
  saved = saved._replace(key=jax.random.wrap_key_data(saved.key, impl="rbg"))
  devices = run.devices()
  state = sharding.put(saved, sharding.state_shardings(saved, devices))
  assert_identical(straight, run.run(range(2, 4), state=state)[0])


def hidden_labels_are_not_used(run: TinyRun) -> None:
  """The true labels of unlabelled texts affect only the metrics."""
  change = lambda batch: (batch[0], np.full_like(batch[1], -1))
  assert_identical(run.run(range(1))[0], run.run(range(1), change=change)[0])


def jit_on_eight_devices_agrees(run: TinyRun) -> None:
  """Eight devices under jit give the same results as one device."""
  check_same(run.run(range(4)), run.run(range(4), devices=run.devices(DEVICES)))


def pmap_and_accumulation_agree(run: TinyRun) -> None:
  """Several devices under pmap give the same results as one, also with micro-batches.

  The check runs four devices with two micro-batches. If the method has no `assign`, the
  step must refuse micro-batches, and the check runs eight devices without them.
  """
  several = TinyRun(run.method, micro=2, encoder=run.encoder)
  count = DEVICES // 2
  if run.method.assign is None:
    try:
      several.run(range(1))
    except ValueError:
      several, count = run, DEVICES
    else:
      raise AssertionError("micro-batches were not refused")
  devices = several.devices(count, "pmap")
  check_same(run.run(range(4)), several.run(range(4), devices=devices))


def check_same(results, others) -> None:
  """Compares the metrics, the method's state and the parameters of two runs."""
  (state, metrics), (other, other_metrics) = results, others
  assert_close(metrics, other_metrics)
  assert_close(state.method, other.method)
  assert_close(state.params, other.params)


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
  pmap_and_accumulation_agree,
)


def assert_close(a, b, tolerance: float = TOLERANCE) -> None:
  """Asserts that two trees agree within the tolerance; infinities must be equal."""
  for (path, x), (_, y) in zip(_leaves(a), _leaves(b), strict=True):
    np.testing.assert_allclose(
      x, y, rtol=tolerance, atol=tolerance, err_msg=jax.tree_util.keystr(path)
    )


def assert_identical(a, b) -> None:
  """Asserts that two trees agree in every bit."""
  for (path, x), (_, y) in zip(_leaves(a), _leaves(b), strict=True):
    assert x.dtype == y.dtype
    assert x.tobytes() == y.tobytes(), jax.tree_util.keystr(path)


def _leaves(tree):
  return jax.tree.leaves_with_path(tiny.to_numpy(tree))
