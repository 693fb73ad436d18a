"""Finds the views that share rows: those that always go through the model together.

Texts of several views leave less padding in common rows than in separate ones.
"""

import collections

import jax
import jax.numpy as jnp

from ssljax.batch import Batch, Labelled, Rows, Texts, Unlabelled
from ssljax.method import Clock, Method, Outputs, Sizes
from ssljax.models.classifier import Classifier

ViewName = tuple[str, str]  # ("labelled" or "unlabelled", name)


def find_groups(
  method: Method, model: Classifier, sizes: Sizes, micro: int = 1
) -> tuple[tuple[ViewName, ...], ...]:
  """Groups the views of a batch.

  Calls the method once, with outputs of the right shapes in place of the model.

  Args:
    micro: number of micro-batches. If it exceeds 1, `assign` and `learn` are called.

  Returns:
    All views of a batch. Two views are in the same group if every pass over one of them
    is also over the other.
  """
  passes: dict[ViewName, list[int]] = collections.defaultdict(list)
  own = iter(range(-1, -1 << 30, -1))  # numbers for views that nothing may share with

  def run(key):
    batch = _empty_batch(method, sizes)
    for part in ("labelled", "unlabelled"):
      for name in getattr(batch, part).views:
        passes[part, name] = []
    features = jnp.zeros((1, model.encoder.config.hidden_size))
    params = model.init(key, features, method="classify")["params"]
    forward = _Recorder(model, params, batch, passes, own)
    zero = jnp.zeros((), jnp.int32)
    clock = Clock(zero, jnp.zeros(()), zero, key, sizes.steps)
    state = method.init(sizes)
    if micro == 1 or method.assign is None:  # the step refuses the latter
      return method.loss(forward, batch, state, clock)[0]
    assigned, _ = method.assign(forward, batch, state, clock)
    return method.learn(forward, batch, assigned, clock)

  jax.eval_shape(run, jax.random.key(0))
  groups = collections.defaultdict(list)
  for view, numbers in passes.items():
    groups[tuple(numbers or [next(own)])].append(view)
  return tuple(map(tuple, groups.values()))


class _Recorder:
  """A `Forward` that only notes which views are in which pass."""

  def __init__(self, model, params, batch, passes, own):
    self._model, self._params = model, params
    self._passes, self._own = passes, own
    self._name_of = {
      id(texts.where): (part, name)
      for part in ("labelled", "unlabelled")
      for name, texts in getattr(batch, part).views.items()
    }
    self._calls = 0

  def __call__(self, *texts, key, teacher=False, gradient=True):
    self._calls += 1
    for view in texts:
      self._note(view, self._calls)
    outputs = tuple(self._outputs(view.where.size) for view in texts)
    return outputs if len(texts) > 1 else outputs[0]

  def _note(self, view: Texts, number: int) -> None:
    if name := self._name_of.get(id(view.where)):
      self._passes[name].append(number)

  def _outputs(self, count: int) -> Outputs:
    return self.classify(jnp.zeros((count, self._model.encoder.config.hidden_size)))

  def classify(self, features):
    return self._model.apply({"params": self._params}, features, method="classify")

  def embed(self, texts):
    # The embeddings of the other texts in the rows would be computed as well.
    self._note(texts, next(self._own))
    width = self._model.encoder.config.hidden_size
    embedding = lambda rows: jnp.zeros((*rows.ids.shape, width))
    rows = tuple(r._replace(embedding=embedding(r)) for r in texts.rows)
    return texts._replace(rows=rows)

  def mix(self, a, b, share, layer, key):
    views = (a,) if isinstance(a, Texts) else a
    for view in views:
      self._note(view, next(self._own))
    return self._outputs(sum(view.where.size for view in views))

  @property
  def depth(self) -> int:
    return self._model.encoder.config.num_hidden_layers


def _empty_batch(method: Method, sizes: Sizes) -> Batch:
  """A batch with the right numbers of texts, all of them in one short row."""

  def texts(count: int) -> Texts:
    ids = jnp.zeros((1, 1, 8), jnp.int32)
    row = Rows(ids, ids, ids, jnp.zeros((1, 1, 1), jnp.int32))
    return Texts((row,), jnp.zeros((1, count), jnp.int32))

  classes, needs = sizes.classes + method.needs.virtual_classes, method.needs
  batch, unlabelled_batch = sizes.batch, sizes.unlabelled_batch
  index = lambda count: jnp.zeros(count, jnp.int32)
  return Batch(
    Labelled(
      {name: texts(batch) for name in needs.labelled_views},
      jnp.zeros((batch, classes)),
      index(batch),
    ),
    Unlabelled(
      {name: texts(unlabelled_batch) for name in needs.views}, index(unlabelled_batch)
    ),
  )
