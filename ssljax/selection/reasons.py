"""Says in plain words why a strategy has chosen a row."""

from collections.abc import Callable, Sequence

import numpy as np

from ssljax.selection.strategies import Candidates

Explain = Callable[[int, Sequence[int]], str]  # (row, rows chosen before it) -> reason


def explainer(strategy: str, candidates: Candidates, labels: Sequence[str]) -> Explain:
  """Returns the function that explains the rows of a strategy."""
  unsure = lambda row: describe_unsure(candidates.probability[row], labels)

  def different(row: int, before: Sequence[int], others: str) -> str:
    embedding = candidates.embedding
    known = [candidates.labelled, embedding[list(before)]]
    nearest = np.concatenate(known) @ embedding[row]
    if not len(nearest):
      return "the first text to be chosen"
    return f"unlike {others} (highest cosine similarity {nearest.max():.2f})"

  def explain(row: int, before: Sequence[int]) -> str:
    if strategy == "random":
      return "drawn at random"
    if strategy in ("uncertainty", "margin"):
      return unsure(row)
    if strategy == "disagreement":
      return describe_votes(candidates.votes[row], labels)
    if strategy == "diversity":
      both = "the labelled and the other chosen texts"
      others = both if len(candidates.labelled) else "the other chosen texts"
      return different(row, before, others)
    text = f"{unsure(row)}; {different(row, before, 'the texts chosen before it')}"
    if strategy == "mixed":
      text += f"; one of those predicted as {labels[candidates.predicted[row]]}"
    return text

  return explain


def describe_unsure(probability: np.ndarray, labels: Sequence[str]) -> str:
  """The two most probable classes; probabilities f64 [C]."""
  first, second = np.argsort(-probability, kind="stable")[:2]
  gap = probability[first] - probability[second]
  how = "is unsure" if gap < 0.5 else "is fairly sure" if gap < 0.9 else "is sure"
  return (
    f"the model {how}: {labels[first]} {probability[first]:.2f}, "
    f"{labels[second]} {probability[second]:.2f}"
  )


def describe_votes(votes: np.ndarray, labels: Sequence[str]) -> str:
  """What the voters predict; probabilities f64 [H, C]."""
  counts = np.bincount(votes.argmax(1), minlength=len(labels))
  order = [c for c in np.argsort(-counts, kind="stable") if counts[c]]
  if len(order) > 1:
    listed = ", ".join(f"{counts[c]} predict {labels[c]}" for c in order)
    return f"the voters disagree: {listed}"
  c = order[0]
  low, high = votes[:, c].min(), votes[:, c].max()
  return (
    f"all voters predict {labels[c]}, with probabilities from {low:.2f} to {high:.2f}"
  )
