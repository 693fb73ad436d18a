"""`Forward`: the model closed over its parameters, as a method sees it.

It hides from the methods how the work is spread. Under `jit` over a mesh nothing need
be done. Under `pmap` each device runs its own shard of the texts, and the outputs are
gathered, so that the method sees the global batch all the same. Texts that come as
several micro-batches (a leading axis K) run one after another.
"""

import jax
import jax.numpy as jnp

from ssljax.batch import Rows, Texts
from ssljax.method import Outputs
from ssljax.models.classifier import Classifier

Array = jax.Array


class ModelForward:
  """See `ssljax.method.Forward` for the calls."""

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
    """Closes `model` over `params`.

    Args:
      teacher: EMA parameters, for `teacher=True`.
      axis: name of the pmap axis, None under jit.
      micro: texts carry a leading axis of micro-batches.
      weak_dropout: whether passes without gradient keep dropout (as published code
        does) or run in evaluation mode.
    """
    self.model, self.params, self.teacher = model, params, teacher
    self.axis, self.micro, self.weak_dropout = axis, micro, weak_dropout

  def __call__(self, *texts: Texts, key, teacher=False, gradient=True):
    if teacher and self.teacher is None:
      raise ValueError("teacher=True needs Needs(teacher=True)")
    params = self.teacher if teacher else self.params
    gradient = gradient and not teacher
    if not gradient:
      params = jax.lax.stop_gradient(params)
    dropout = gradient or self.weak_dropout

    def run(views, key):
      return self.apply(params, views, key if dropout else None)

    if self.micro:
      count = texts[0].where.shape[0]
      keys = jnp.arange(count, dtype=jnp.uint32)
      parts = jax.lax.map(
        lambda pair: run(pair[0], jax.random.fold_in(key, pair[1])), (texts, keys)
      )
      outputs = [jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), p) for p in parts]
    else:
      outputs = run(texts, key)
    return tuple(outputs) if len(texts) > 1 else outputs[0]

  def apply(self, params, texts: tuple[Texts, ...], key) -> list[Outputs]:
    """One pass; Outputs of the global batch for each of `texts`."""
    if self.axis:
      # A device draws its own dropout; everything else is drawn alike on all.
      key = (
        None if key is None else jax.random.fold_in(key, jax.lax.axis_index(self.axis))
      )
    rngs = {} if key is None else {"dropout": key}
    outputs = self.model.apply({"params": params}, texts, key is None, rngs=rngs)
    ends, parts = 0, []
    for view in texts:
      begin, ends = ends, ends + view.where.size
      parts.append(jax.tree.map(lambda a, b=begin, e=ends: a[b:e], outputs))
    if self.axis:
      parts = jax.lax.all_gather(parts, self.axis, axis=0, tiled=True)
    return parts

  def classify(self, features: Array) -> Outputs:
    return self.model.apply({"params": self.params}, features, method="classify")

  @property
  def depth(self) -> int:
    return self.model.encoder.config.num_hidden_layers

  def mix(
    self,
    a: Texts | tuple[Texts, ...],
    b: Array,
    share: Array,
    layer: Array,
    key: Array,
  ) -> Outputs:
    a = (a,) if isinstance(a, Texts) else a
    if self.micro or any(
      len(view.rows) > 1 or view.rows[0].first.shape[-1] > 1 for view in a
    ):
      raise ValueError("mix needs Needs(layout='padded') and no gradient accumulation")
    if self.axis:
      # Partners stand on other devices: each device runs all of the texts.
      a = jax.lax.all_gather(a, self.axis, axis=0, tiled=True)
    return self.model.apply(
      {"params": self.params},
      a,
      b,
      share,
      layer,
      False,
      rngs={"dropout": key},
      method="mix",
    )

  def embed(self, texts: Texts) -> Texts:
    def filled(rows: Rows) -> Rows:
      return rows._replace(
        embedding=self.model.apply({"params": self.params}, rows.ids, method="embed")
      )

    return texts._replace(rows=tuple(filled(rows) for rows in texts.rows))
