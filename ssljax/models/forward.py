"""ModelForward: the model with its parameters bound, as methods call it.

Methods don't see how the work is distributed. Under `jit` over a mesh, XLA distributes
it. Under `pmap`, each device runs its own shard of the texts and ModelForward gathers
the outputs, so that the method sees the global batch. Micro-batches (a leading axis K
of the texts) run one at a time.
"""

import jax
import jax.numpy as jnp

from ssljax.batch import Texts
from ssljax.method import Outputs
from ssljax.models.classifier import Classifier

Array = jax.Array


class ModelForward:
  """Implements `ssljax.method.Forward`."""

  def __init__(
    self,
    model: Classifier,
    params,
    teacher=None,
    *,
    axis: str | None = None,
    micro: bool = False,
    weak_dropout: bool = True,
  ):
    """Binds `params` to `model`.

    Args:
      teacher: EMA parameters, for `teacher=True`.
      axis: name of the pmap axis, None under jit.
      micro: whether the texts have a leading axis of micro-batches.
      weak_dropout: whether passes without gradient use dropout, as in published code.
        If False, they run in evaluation mode.
    """
    self.model, self.params, self.teacher = model, params, teacher
    self.axis, self.micro, self.weak_dropout = axis, micro, weak_dropout

  def __call__(self, *texts: Texts, key, teacher=False, gradient=True):
    if teacher and self.teacher is None:
      raise ValueError("teacher=True requires Needs(teacher=True) and an EMA")
    params = self.teacher if teacher else self.params
    gradient = gradient and not teacher
    if not gradient:
      params = jax.lax.stop_gradient(params)
    dropout = gradient or self.weak_dropout
    if self.micro:
      # Rows that views share must be one object also within the loop.
      index = {id(view.rows): i for i, view in enumerate(texts)}
      owner = [index[id(view.rows)] for view in texts]
      rows = {i: texts[i].rows for i in owner}

      def run(arguments):
        rows, where, number = arguments
        views = tuple(Texts(rows[i], w) for i, w in zip(owner, where, strict=True))
        micro_key = jax.random.fold_in(key, number) if dropout else None
        return self.apply(params, views, micro_key)

      where = [view.where for view in texts]
      numbers = jnp.arange(where[0].shape[0], dtype=jnp.uint32)
      stacked = jax.lax.map(run, (rows, where, numbers))
      outputs = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), stacked)
    else:
      outputs = self.apply(params, texts, key if dropout else None)
    return tuple(outputs) if len(texts) > 1 else outputs[0]

  def apply(self, params, texts: tuple[Texts, ...], key) -> list[Outputs]:
    """Runs one pass; returns the Outputs of the global batch for each of `texts`."""
    if self.axis and key is not None:
      # Each device has its own dropout; all other random numbers are the same on all.
      key = jax.random.fold_in(key, jax.lax.axis_index(self.axis))
    rngs = {} if key is None else {"dropout": key}
    outputs = self.model.apply({"params": params}, texts, key is None, rngs=rngs)
    end, by_view = 0, []
    for view in texts:
      begin, end = end, end + view.where.size
      by_view.append(jax.tree.map(lambda a, b=begin, e=end: a[b:e], outputs))
    if self.axis:
      by_view = jax.lax.all_gather(by_view, self.axis, axis=0, tiled=True)
    return by_view

  def classify(self, features: Array) -> Outputs:
    return self.model.apply({"params": self.params}, features, method="classify")

  @property
  def depth(self) -> int:
    return self.model.encoder.config.num_hidden_layers

  def mix(
    self, a: Texts | tuple[Texts, ...], b: Array, share: Array, layer: Array, key: Array
  ) -> Outputs:
    a = (a,) if isinstance(a, Texts) else a
    padded = all(len(v.rows) == 1 and v.rows[0].first.shape[-1] == 1 for v in a)
    if self.micro or not padded:
      raise ValueError(
        "mix requires Needs(layout='padded') and no gradient accumulation"
      )
    if self.axis:
      # Partners may be on other devices, so each device runs all texts.
      a = jax.lax.all_gather(a, self.axis, axis=0, tiled=True)
    params, rngs, mix = {"params": self.params}, {"dropout": key}, (b, share, layer)
    return self.model.apply(params, a, mix, False, rngs=rngs, method="mix")

  def embed(self, texts: Texts) -> Texts:
    embed = lambda model, ids: model.encoder.embed(ids)
    apply = lambda ids: self.model.apply({"params": self.params}, ids, method=embed)
    rows = tuple(rows._replace(embedding=apply(rows.ids)) for rows in texts.rows)
    return texts._replace(rows=rows)
