"""Builds the train step and the eval step: pure functions, the same for all methods."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssljax import sharding
from ssljax.batch import Batch, Texts
from ssljax.method import Assignment, Clock, Method, Sizes, Term
from ssljax.models.classifier import Classifier
from ssljax.models.forward import ModelForward
from ssljax.training import pytrees

Array = jax.Array
MAX_REPORTED_CLASSES = 20  # with more, pseudo-labels are not reported by class
MICRO_BATCH_KEY = 1000  # this plus the micro-batch's number is folded into a step's key
Metrics = Mapping[str, Array]  # f32 []


class TrainState(NamedTuple):
  """Everything that changes during a run; all of it is saved in checkpoints."""

  step: Array  # i32 [], finished steps
  params: Any
  ema: Any  # like params, or None
  opt: optax.OptState
  method: Any  # state of the method
  key: Array  # typed PRNG key of the run; each step folds in its number


def make_train_step(
  *,
  model: Classifier,
  method: Method,
  optimizer: optax.GradientTransformation,
  sizes: Sizes,
  ema: float = 0.0,
  micro: int = 1,
  weak_dropout: bool = True,
  axis: str | None = None,
) -> Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]:
  """Builds `train_step(state, batch, hidden) -> (state, metrics)`, not yet compiled.

  `hidden`, i32 [U], holds the true labels of the unlabelled texts, -1 if unknown. Only
  the metrics use it.

  Args:
    sizes: of the data and the run.
    ema: decay of the moving average of the parameters, 0 for no average. At step t, the
      decay is at most 1 - 1/(t + 1).
    micro: number of micro-batches for gradient accumulation. If it exceeds 1, `assign`
      runs on the whole batch, without gradient, and `learn` runs on one micro-batch at
      a time.
    weak_dropout, axis: see `ModelForward`.

  Raises:
    ValueError: micro > 1 with a method that has no `assign` and `learn`.
  """
  if micro > 1 and (method.assign is None or method.learn is None):
    raise ValueError(
      "this method's loss spans the batch, so its gradient can't be accumulated"
    )

  def forward(params, state, micro=False):
    return ModelForward(
      model, params, state.ema, axis=axis, micro=micro, weak_dropout=weak_dropout
    )

  def whole_batch(state, batch, clock):
    """Gradients and losses from one pass."""
    batch = batch.with_shared_rows()

    def loss(params):
      terms, method_state, assignment = method.loss(
        forward(params, state), batch, state.method, clock
      )
      losses = reduce_terms(terms)
      total = sum(losses.values())
      return total, jax.lax.stop_gradient((total, losses, method_state, assignment))

    return jax.grad(loss, has_aux=True)(state.params)

  def accumulated(state, batch, clock):
    """Gradients and losses of the whole batch, from one micro-batch at a time."""
    assignment, method_state = jax.lax.stop_gradient(
      method.assign(
        forward(state.params, state, True),
        batch.with_shared_rows(),
        state.method,
        clock,
      )
    )
    split = lambda a: a.reshape(micro, -1, *a.shape[1:])  # [micro, n / micro, ...]
    micro_batches = (
      sharding.map_batch(lambda a: a, split, batch),  # already split by the loader
      jax.tree.map(split, assignment._replace(scalars={})),
      jnp.arange(micro),
    )

    def loss(params, batch, assignment, k):
      key = jax.random.fold_in(clock.key, MICRO_BATCH_KEY + k)
      micro_clock = clock._replace(key=key)
      shared = batch.with_shared_rows()
      terms = method.learn(forward(params, state), shared, assignment, micro_clock)
      losses = reduce_terms(terms)
      total = sum(losses.values())
      return total / micro, jax.tree.map(lambda v: v / micro, (total, losses))

    def add(total, micro_batch):
      batch, targets, k = micro_batch
      targets = targets._replace(scalars=assignment.scalars)
      grads_and_losses = jax.grad(loss, has_aux=True)(state.params, batch, targets, k)
      return jax.tree.map(jnp.add, total, grads_and_losses), None

    first = jax.tree.map(lambda a: a[0], micro_batches)
    shapes = jax.eval_shape(jax.grad(loss, has_aux=True), state.params, *first)
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    (grads, (total, losses)), _ = jax.lax.scan(add, zeros, micro_batches)
    return grads, (total, losses, method_state, assignment)

  def train_step(state: TrainState, batch: Batch, hidden: Array):
    clock = Clock(
      state.step,
      state.step.astype(jnp.float32) / sizes.steps,
      state.step // sizes.epoch_steps,
      jax.random.fold_in(state.key, state.step),
      sizes.steps,
    )
    gradients = accumulated if micro > 1 else whole_batch
    grads, (loss, losses, method_state, assignment) = gradients(state, batch, clock)
    if axis:
      grads = jax.lax.pmean(grads, axis)
    updates, opt = optimizer.update(grads, state.opt, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.ema
    if average is not None:
      # At first this is a plain mean, as in the code of Mean Teacher. Otherwise the
      # initial values would dominate the average of a short run.
      limit = 1.0 - 1.0 / (state.step + 1).astype(jnp.float32)
      average = optax.incremental_update(params, average, 1.0 - jnp.minimum(ema, limit))
    metrics = {
      "loss": loss,
      **losses,
      **assignment.scalars,
      **pseudo_label_metrics(assignment, hidden, sizes.classes),
      "gradient_norm": optax.tree.norm(grads),
      "update_norm": optax.tree.norm(updates),
    }
    metrics = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), metrics)
    state = TrainState(state.step + 1, params, average, opt, method_state, state.key)
    return state, metrics

  return train_step


def init_state(
  params, *, method: Method, optimizer, sizes: Sizes, ema: bool, key: Array
) -> TrainState:
  """The state before the first step."""
  return TrainState(
    jnp.zeros((), jnp.int32),
    params,
    jax.tree.map(jnp.copy, params) if ema else None,  # donation forbids aliases
    optimizer.init(params),
    method.init(sizes),
    key,
  )


def from_saved(
  named: Mapping[str, Any], *, method: Method, sizes: Sizes, prng: str
) -> TrainState:
  """Rebuilds a state saved as nested dicts of NumPy arrays; keeps `pytrees.sha256`.

  The optimiser's state stays nested dicts, since its leaves are in the same order.

  Args:
    prng: the implementation of the run's key.
  """
  rest = lambda: {"method": method.init(sizes), "key": jax.random.key(0, impl=prng)}
  return TrainState(
    step=named["step"],
    params=named["params"],
    ema=named.get("ema"),
    opt=named["opt"],
    **pytrees.from_named(named, jax.eval_shape(rest)),
  )


def reduce_terms(terms: Mapping[str, Term]) -> dict[str, Array]:
  """scale * mean(weight * loss) of each term, f32 []."""
  return {
    name: term.scale * jnp.mean(term.weight * term.loss) for name, term in terms.items()
  }


def pseudo_label_metrics(
  assignment: Assignment, hidden: Array, classes: int
) -> dict[str, Array]:
  """How many unlabelled texts were used, and how many of their labels were right.

  If there are at most MAX_REPORTED_CLASSES classes, `<name>.<class>` is the same metric
  for the pseudo-labels of one class. A target in a virtual class (>= `classes`) isn't
  counted as a pseudo-label.

  Returns:
    Name -> f32 []; {} without unlabelled texts.
  """
  if not hidden.shape[0]:
    return {}
  label = assignment.target.argmax(-1)
  used = (assignment.weight > 0) & (label < classes)
  known = used & (hidden >= 0)
  right = known & (label == hidden)
  metrics = {"pseudo_label_weight": jnp.where(used, assignment.weight, 0).mean()}
  groups = {"": used}
  if classes <= MAX_REPORTED_CLASSES:
    groups |= {f".{c}": label == c for c in range(classes)}
  for suffix, group in groups.items():
    metrics |= {
      f"mask_rate{suffix}": (used & group).mean(dtype=jnp.float32),
      # Counts, so that the accuracy over several steps weights each text equally.
      f"pseudo_labels_right{suffix}": (right & group).sum(dtype=jnp.float32),
      f"pseudo_labels_known{suffix}": (known & group).sum(dtype=jnp.float32),
    }
  return metrics


def make_eval_step(
  *, model: Classifier, method: Method
) -> Callable[[Any, Texts], Array]:
  """Builds `eval_step(params, texts)`, which returns logits f32 [n, C]."""

  def eval_step(params, texts):
    return method.predict(model.apply({"params": params}, (texts,)))

  return eval_step
