"""Lists the passes of the model in a step of a method, without computing anything."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssljax.batch import Batch, Labelled, Rows, Texts, Unlabelled
from ssljax.method import Clock, Method, Outputs, Sizes
from ssljax.models.classifier import Classifier

ViewName = tuple[str, str]  # ("labelled" or "unlabelled", name)


class Pass(NamedTuple):
  """A call of `Forward`."""

  # None for texts that aren't a view of the batch.
  views: tuple[ViewName | None, ...]
  # "train", "read" (without gradient), "mix", "embed", or "perturbed": without gradient
  # for the parameters, but over given embeddings, as in VAT
  kind: str


def record_passes(
  method: Method, model: Classifier, sizes: Sizes, micro: int = 1
) -> list[Pass]:
  """Calls the method once, with outputs of the right shapes in place of the model's.

  Args:
    micro: number of micro-batches. If it exceeds 1, `assign` and `learn` are called.
  """
  passes: list[Pass] = []

  def run(key):
    features = jnp.zeros((1, model.encoder.config.hidden_size))
    params = model.init(key, features, method="classify")["params"]
    batch = _empty_batch(method, sizes)
    forward = _Recorder(model, params, batch, passes)
    zero = jnp.zeros((), jnp.int32)
    clock = Clock(zero, jnp.zeros(()), zero, key, sizes.steps)
    state = method.init(sizes)
    if micro == 1 or method.assign is None:  # the step refuses the latter
      return method.loss(forward, batch, state, clock)[0]
    assigned, _ = method.assign(forward, batch, state, clock)
    return method.learn(forward, batch, assigned, clock)

  jax.eval_shape(run, jax.random.key(0))
  return passes


class _Recorder:
  """A `Forward` that lists its calls; the values of its outputs mean nothing."""

  def __init__(self, model, params, batch, passes):
    self._model, self._params, self._passes = model, params, passes
    self._embedded: ViewName | None = None  # the view that was embedded last
    self._names = {
      id(texts.where): (part, name)
      for part in ("labelled", "unlabelled")
      for name, texts in getattr(batch, part).views.items()
    }

  def _note(self, texts, kind: str) -> None:
    self._passes.append(Pass(tuple(map(self._name, texts)), kind))

  def _name(self, view: Texts) -> ViewName | None:
    # `embed` replaces the rows of a view; `where` stays the same object.
    if name := self._names.get(id(view.where)):
      return name
    # Derivatives with respect to embeddings replace `where` as well.
    return self._embedded if _has_embedding(view) else None

  def __call__(self, *texts, key, teacher=False, gradient=True):
    trains = gradient and not teacher
    perturbed = any(map(_has_embedding, texts))
    self._note(texts, "train" if trains else "perturbed" if perturbed else "read")
    outputs = tuple(self._outputs(view.where.size) for view in texts)
    return outputs if len(texts) > 1 else outputs[0]

  def _outputs(self, count: int) -> Outputs:
    return self.classify(jnp.zeros((count, self._model.encoder.config.hidden_size)))

  def classify(self, features):
    return self._model.apply({"params": self._params}, features, method="classify")

  def embed(self, texts):
    self._note([texts], "embed")
    self._embedded = self._name(texts)
    width = self._model.encoder.config.embedding_size
    embedding = lambda rows: jnp.zeros((*rows.ids.shape, width))
    rows = tuple(r._replace(embedding=embedding(r)) for r in texts.rows)
    return texts._replace(rows=rows)

  def mix(self, a, b, share, layer, key):
    views = (a,) if isinstance(a, Texts) else a
    self._note(views, "mix")
    return self._outputs(sum(view.where.size for view in views))

  @property
  def depth(self) -> int:
    return self._model.encoder.config.num_hidden_layers


def _has_embedding(texts: Texts) -> bool:
  return any(rows.embedding is not None for rows in texts.rows)


def _empty_batch(method: Method, sizes: Sizes) -> Batch:
  """A batch with the right numbers of texts, all of them in one short row."""

  def texts(count: int) -> Texts:
    ids = jnp.zeros((1, 1, 8), jnp.int32)
    row = Rows(ids, ids, ids, jnp.zeros((1, 1, 1), jnp.int32))
    return Texts((row,), jnp.zeros((1, count), jnp.int32))

  classes, needs = sizes.classes + method.needs.virtual_classes, method.needs
  labelled, unlabelled = sizes.batch, sizes.unlabelled_batch
  index = lambda count: jnp.zeros(count, jnp.int32)
  return Batch(
    Labelled(
      {name: texts(labelled) for name in needs.labelled_views},
      jnp.zeros((labelled, classes)),
      index(labelled),
    ),
    Unlabelled({name: texts(unlabelled) for name in needs.views}, index(unlabelled)),
  )
