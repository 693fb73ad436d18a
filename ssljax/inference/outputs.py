"""All outputs of a classifier: its logits, those of each voter, and the embeddings.

A step that computes them returns one array, f32 [n, C + 1 + H C + D], so that texts can
be scored with it as with a step that returns logits. Column C holds H.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.batch import Texts
from ssljax.inference.load import TrainedModel
from ssljax.inference.score import EvalStep
from ssljax.method import Outputs
from ssljax.models.classifier import Classifier


class TextOutputs(NamedTuple):
  """The outputs for n texts."""

  logits: np.ndarray  # f32 [n, C], before calibration
  votes: np.ndarray  # f32 [n, H, C], the logits of each voter; H is 1 without voters
  embeddings: np.ndarray  # f32 [n, D], the pooled vectors
  unreadable: np.ndarray  # bool [n], whether a text with content has no known token


def make_step(
  model: Classifier, predict: Callable[[Outputs], Any], classes: int, voters: str = ""
) -> EvalStep:
  """Builds a step for `split`.

  Args:
    predict: returns the logits, [n, C].
    classes: C, without virtual classes.
    voters: the name of the head that has several voters; "" if there is none.
  """

  def step(params: Any, texts: Texts) -> jax.Array:
    outputs = model.apply({"params": params}, (texts,))
    logits = predict(outputs)
    votes = outputs.heads[voters][..., :classes] if voters else logits[:, None]
    n, count = votes.shape[:2]
    parts = [logits, jnp.full((n, 1), count, logits.dtype), votes.reshape(n, -1)]
    return jnp.concatenate([*parts, outputs.features], axis=1)

  return step


def step_of(trained: TrainedModel) -> EvalStep:
  """`make_step` for a run; voters are those that its method predicts with."""
  method = trained.method
  head = method.needs.heads.get(method.needs.predicts)
  several = head is not None and head.kind in ("classifier", "network")
  voters = method.needs.predicts if several else ""
  return make_step(trained.model, method.predict, len(trained.labels), voters)


def split(
  result: np.ndarray | None, unreadable: np.ndarray, classes: int
) -> TextOutputs:
  """Splits the result of a step of `make_step`; it's None if no text has content."""
  if result is None:
    logits = np.full((len(unreadable), classes), np.nan, np.float32)
    return TextOutputs(logits, logits[:, None], logits[:, :0], unreadable)
  counts = result[:, classes]
  voters = int(counts[~np.isnan(counts)][0])
  end = classes + 1 + voters * classes
  votes = result[:, classes + 1 : end].reshape(len(result), voters, classes)
  return TextOutputs(result[:, :classes], votes, result[:, end:], unreadable)
