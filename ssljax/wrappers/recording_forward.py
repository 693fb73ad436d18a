"""A model that is listened to: what a wrapper has of the method that it wraps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ssljax.method import Needs, Outputs

Array = jax.Array


class Listening:
  """A `Forward` that passes everything on, changes what is said, and remembers it.

  What is remembered is what the model said before the change.
  """

  def __init__(
    self,
    forward,
    change: Callable[[Outputs, Any, bool], Outputs] = lambda said, *_: said,
  ):
    """Args: `change(said, view, learns)`; `learns`: the pass has a gradient.

    Features that a method classifies, and mixed texts, are of the view None.
    """
    self._forward, self._change = forward, change
    self._heard: list[tuple[object, bool, Outputs]] = []

  def __call__(self, *texts, key, teacher=False, gradient=True):
    found = self._forward(*texts, key=key, teacher=teacher, gradient=gradient)
    some = found if len(texts) > 1 else (found,)
    learns = gradient and not teacher
    self._heard += [(view, learns, one) for view, one in zip(texts, some, strict=True)]
    changed = [self._change(one, v, learns) for v, one in zip(texts, some, strict=True)]
    return tuple(changed) if len(texts) > 1 else changed[0]

  def said(self, view, learns: bool, key: Array) -> Outputs:
    """What the model said of a view; it is asked where the method did not."""
    for texts, learned, outputs in self._heard:
      if texts is view and learned == learns:
        return outputs
    return self._forward(view, key=key, gradient=learns)

  def classify(self, features):
    return self._change(self._forward.classify(features), None, True)

  def mix(self, *given):
    return self._change(self._forward.mix(*given), None, True)

  def embed(self, texts):
    return self._forward.embed(texts)

  @property
  def depth(self) -> int:
    return self._forward.depth


def voters(needs: Needs) -> list[str]:
  """Names of the heads whose outputs are logits of the classes."""
  return [name for name, head in needs.heads.items() if head.kind == "classifier"]


def shifted(outputs: Outputs, shift: Array, voters: list[str]) -> Outputs:
  """`shift` f32 [C] added to the logits, and to those of each voter.

  Virtual classes, which stand behind the C, are left as they are.
  """
  shift = jnp.pad(shift, (0, outputs.logits.shape[-1] - shift.shape[0]))
  heads = {**outputs.heads, **{name: outputs.heads[name] + shift for name in voters}}
  return outputs._replace(logits=outputs.logits + shift, heads=heads)


def refuse_several(needs: Needs) -> None:
  """For a wrapper that gives a text one distribution, over the classes.

  Raises:
    ValueError: voters, whom it would make agree, or virtual classes, which it lacks.
  """
  if voters(needs) or needs.virtual_classes:
    raise ValueError("takes no method with several voters or virtual classes")


def refuse_votes(needs: Needs) -> None:
  """For a wrapper that changes how the weak view votes, or what the others say.

  Raises:
    ValueError: another view votes, too (MixMatch), in the pass that learns even
      (SequenceMatch): half of the votes would stay, or change the wrong way. Or votes
      are held against what is said of labelled texts (AdaMatch): one of the two would
      change without the other.
  """
  if needs.relative:
    raise ValueError("takes no method whose votes are held against the labelled texts'")
  if needs.votes != ("weak",):
    raise ValueError(f"takes no method with targets of the {needs.votes[-1]} view")


def refuse_control(needs: Needs) -> None:
  """For a wrapper that changes what unlabelled texts learn by.

  Raises:
    ValueError: labelled texts lose the same (DeFixMatch), and would lose it unchanged.
  """
  if "strong" in needs.labelled_views:
    raise ValueError("takes no method that labels labelled texts, too")


def refuse_soft(needs: Needs) -> None:
  """For a wrapper under which what is said of a text and what it learns by differ.

  Raises:
    ValueError: a target is the distribution that the model said: the strong view learns
      to say it and the difference, and so at each visit again.
  """
  if needs.soft:
    raise ValueError("takes no method whose targets are distributions")


def told(outputs: Outputs, probability: Array) -> Outputs:
  """With logits of softmax `probability` f32 [n, C]."""
  return outputs._replace(logits=jnp.log(jnp.maximum(probability, 1e-30)))
