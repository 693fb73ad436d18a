"""The train step: a pure function of state and batch, the same for every method."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssljax.batch import Batch, Texts
from ssljax.method import Assignment, Clock, Method, Sizes, Term
from ssljax.models.classifier import Classifier
from ssljax.models.forward import ModelForward

Array = jax.Array
MOST_CLASSES = 20  # that pseudo-labels are reported of one by one
Metrics = Mapping[str, Array]  # f32 []


class TrainState(NamedTuple):
  """All that a run carries; one pytree, all of it in the checkpoint."""

  step: Array  # i32 [], steps done
  params: Any
  ema: Any  # like params, or None
  opt: optax.OptState
  method: Any  # what the method carries
  key: Array  # typed PRNG key, never used itself: each step folds its number in


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

  Args:
    sizes: of the data and the run.
    ema: decay of the parameters' average, 0 for none; at step t at most 1 - 1/(t + 1).
    micro: micro-batches; above 1 the targets come from the whole batch, without
      gradient, and the gradients from one micro-batch after another.
    weak_dropout: see `ModelForward`.
    axis: name of the pmap axis, None under jit.

  `hidden` i32 [U] are the true labels of the unlabelled texts, -1 where unknown. They
  reach the metrics and nothing else.
  """
  if micro > 1 and (method.assign is None or method.learn is None):
    raise ValueError("this method's loss spans the batch: it cannot be accumulated")

  def forward(params, state, micro=False):
    return ModelForward(
      model, params, state.ema, axis=axis, micro=micro, weak_dropout=weak_dropout
    )

  def whole(state, batch, clock):
    """Gradients of the batch in one go."""

    def loss(params):
      terms, carried, assigned = method.loss(
        forward(params, state), batch, state.method, clock
      )
      values = reduced(terms)
      total = sum(values.values())
      return total, jax.lax.stop_gradient((total, values, carried, assigned))

    return jax.grad(loss, has_aux=True)(state.params)

  def accumulated(state, batch, clock):
    """The same gradients from `micro` smaller passes."""
    assigned, carried = jax.lax.stop_gradient(
      method.assign(forward(state.params, state, True), batch, state.method, clock)
    )
    parts = (pieces(batch, micro), slices(assigned, micro), jnp.arange(micro))

    def loss(params, batch, assigned, k):
      here = clock._replace(key=jax.random.fold_in(clock.key, 1000 + k))
      values = reduced(method.learn(forward(params, state), batch, assigned, here))
      total = sum(values.values())
      return total / micro, jax.tree.map(lambda v: v / micro, (total, values))

    def add(total, part):
      batch, mine, k = part
      mine = mine._replace(scalars=assigned.scalars)
      found = jax.grad(loss, has_aux=True)(state.params, batch, mine, k)
      return jax.tree.map(jnp.add, total, found), None

    empty = jax.eval_shape(
      lambda: jax.grad(loss, has_aux=True)(
        state.params, *jax.tree.map(lambda a: a[0], parts)
      )
    )
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), empty)
    (grads, (total, values)), _ = jax.lax.scan(add, zeros, parts)
    return grads, (total, values, carried, assigned)

  def train_step(state: TrainState, batch: Batch, hidden: Array):
    clock = Clock(
      state.step,
      state.step.astype(jnp.float32) / sizes.steps,
      state.step // sizes.epoch_steps,
      jax.random.fold_in(state.key, state.step),
    )
    gradients = accumulated if micro > 1 else whole
    grads, (loss, values, carried, assigned) = gradients(state, batch, clock)
    if axis:
      grads = jax.lax.pmean(grads, axis)
    updates, opt = optimizer.update(grads, state.opt, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.ema
    if average is not None:
      # A plain mean at first, as Mean Teacher's code has it: a short run would else
      # average over its first values for ever.
      most = 1.0 - 1.0 / (state.step + 1).astype(jnp.float32)
      average = optax.incremental_update(params, average, 1.0 - jnp.minimum(ema, most))
    metrics = {
      "loss": loss,
      **values,
      **assigned.scalars,
      **pseudo_label_metrics(assigned, hidden, sizes.classes),
      "gradient_norm": optax.tree.norm(grads),
      "update_norm": optax.tree.norm(updates),
    }
    metrics = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), metrics)
    return TrainState(state.step + 1, params, average, opt, carried, state.key), metrics

  return train_step


def init_state(
  params, *, method: Method, optimizer, sizes: Sizes, ema: bool, key: Array
) -> TrainState:
  """The state before the first step."""
  return TrainState(
    jnp.zeros((), jnp.int32),
    params,
    jax.tree.map(jnp.copy, params) if ema else None,  # donated: must be its own
    optimizer.init(params),
    method.init(sizes),
    key,
  )


def reduced(terms: Mapping[str, Term]) -> dict[str, Array]:
  """scale * mean(weight * loss) of each term, f32 []."""
  return {
    name: term.scale * jnp.mean(term.weight * term.loss) for name, term in terms.items()
  }


def pseudo_label_metrics(
  assigned: Assignment, hidden: Array, classes: int
) -> dict[str, Array]:
  """How many texts were used, and how many of those rightly; {} without any.

  The same for each class that a pseudo-label names, `<name>.<class>`, where they are
  MOST_CLASSES at most. A target beyond the `classes` (a virtual class) is no
  pseudo-label.
  """
  if not hidden.shape[0]:
    return {}
  label = assigned.target.argmax(-1)
  used = (assigned.weight > 0) & (label < classes)
  known = used & (hidden >= 0)
  right = known & (label == hidden)
  found = {"pseudo_label_weight": jnp.where(used, assigned.weight, 0).mean()}
  among = {"": used}
  if classes <= MOST_CLASSES:
    among |= {f".{c}": label == c for c in range(classes)}
  for name, some in among.items():
    found |= {
      f"mask_rate{name}": (used & some).mean(dtype=jnp.float32),
      # Both counts, so that a window of steps gives its true share.
      f"pseudo_labels_right{name}": (right & some).sum(dtype=jnp.float32),
      f"pseudo_labels_known{name}": (known & some).sum(dtype=jnp.float32),
    }
  return found


def pieces(batch: Batch, micro: int) -> Batch:
  """Micro-batches under a leading axis; texts have theirs already."""

  def split(part):
    texts = part.views
    rest = slices(part._replace(views={}), micro)
    return rest._replace(views=texts)

  return Batch(split(batch.labelled), split(batch.unlabelled))


def slices(tree, micro: int):
  """Leaves [n, ...] -> [micro, n / micro, ...]; an assignment's scalars go."""
  if isinstance(tree, Assignment):
    tree = tree._replace(scalars={})
  return jax.tree.map(lambda a: a.reshape(micro, -1, *a.shape[1:]), tree)


def make_eval_step(
  *, model: Classifier, method: Method
) -> Callable[[Any, Texts], Array]:
  """`eval_step(params, texts) -> logits f32 [n, C]` as `method.predict` gives them."""

  def eval_step(params, texts):
    return method.predict(model.apply({"params": params}, (texts,)))

  return eval_step
