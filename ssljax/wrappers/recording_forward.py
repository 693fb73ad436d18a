"""A `Forward` that records and changes model outputs, for wrappers."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssljax.batch import Batch, Texts
from ssljax.method import Forward, Outputs

Array = jax.Array


class Pass(NamedTuple):
  """Names a pass of the model over one view of a batch."""

  part: str  # "labelled" | "unlabelled"; "" for texts that the method itself makes
  view: str  # "weak", "strong" …
  trains: bool  # whether the pass has a gradient


LABELLED = Pass("labelled", "weak", trains=True)
VOTES = Pass("unlabelled", "weak", trains=False)  # targets are computed from it
STRONG = Pass("unlabelled", "strong", trains=True)
MIXED = Pass("", "", trains=True)  # mixed texts, or features that a method classifies


class RecordingForward:
  """Runs another `Forward`, records its outputs, and returns changed outputs."""

  def __init__(
    self,
    forward: Forward,
    batch: Batch,
    change: Callable[[Outputs, Pass], Outputs] = lambda outputs, _: outputs,
  ):
    """`change` maps the outputs of a pass to what the method receives."""
    self._forward, self._batch, self._change = forward, batch, change
    self._recorded: dict[Pass, Outputs] = {}

  def __call__(self, *texts, key, teacher=False, gradient=True):
    outputs = self._forward(*texts, key=key, teacher=teacher, gradient=gradient)
    outputs = outputs if len(texts) > 1 else (outputs,)
    changed = []
    for view, original in zip(texts, outputs, strict=True):
      name = self._name(view, trains=gradient and not teacher)
      self._recorded.setdefault(name, original)
      changed.append(self._change(original, name))
    return tuple(changed) if len(texts) > 1 else changed[0]

  def _name(self, texts: Texts, trains: bool) -> Pass:
    for part in ("labelled", "unlabelled"):
      for view, of_batch in getattr(self._batch, part).views.items():
        if texts is of_batch:
          return Pass(part, view, trains)
    return Pass("", "", trains)

  def outputs(self, name: Pass, key: Array) -> Outputs:
    """The unchanged outputs of a pass. If it hasn't run yet, runs it with `key`."""
    if name in self._recorded:
      return self._recorded[name]
    texts = getattr(self._batch, name.part).views[name.view]
    return self._forward(texts, key=key, gradient=name.trains)

  def classify(self, features):
    return self._change(self._forward.classify(features), MIXED)

  def mix(self, *arguments):
    return self._change(self._forward.mix(*arguments), MIXED)

  def embed(self, texts):
    return self._forward.embed(texts)

  @property
  def depth(self) -> int:
    return self._forward.depth


def shift_logits(outputs: Outputs, shift: Array) -> Outputs:
  """Adds `shift` f32 [C] to the logits of the classifier and of each voter.

  The logits of virtual classes, which come after the C classes, don't change.
  """
  shift = jnp.pad(shift, (0, outputs.logits.shape[-1] - shift.shape[0]))
  # Only the outputs of voters, [n, H, C], have three axes.
  heads = {k: a + shift if a.ndim == 3 else a for k, a in outputs.heads.items()}
  return outputs._replace(logits=outputs.logits + shift, heads=heads)


def with_probability(outputs: Outputs, probability: Array) -> Outputs:
  """Changes the logits so that their softmax is `probability`, f32 [n, C]."""
  return outputs._replace(logits=jnp.log(jnp.maximum(probability, 1e-30)))
