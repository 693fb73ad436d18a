"""The strategies: which candidates to label next, given what the model predicts.

Each strategy is a function `(candidates, count, state) -> rows`: it chooses at most
`count` of the rows that `state` leaves open, best first. All are deterministic, given
the generator in `state`.

- `random` draws rows at random. It's the baseline, and the only strategy whose rows
  are a fair sample of the pool.
- `uncertainty` takes the highest entropy, `margin` the smallest difference between the
  two most probable classes. With two classes, their order is the same.
- `disagreement` takes the highest Jensen-Shannon divergence between the voters.
- `diversity` is the greedy k-centre algorithm on embeddings (Sener & Savarese, 2018,
  arXiv 1708.00489): the row that is farthest from all labelled and chosen rows.
- `badge` is k-means++ on gradient embeddings (Ash et al., 2020, arXiv 1906.03671).
- `mixed`, the default, takes the `POOL_FACTOR * count` rows with the smallest margin,
  and spreads the choice over them with k-means++ on their embeddings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

POOL_FACTOR = 10  # `mixed` spreads its choice over so many uncertain rows per choice


class Candidates(NamedTuple):
  """What the model predicts for n rows of the pool."""

  probability: np.ndarray  # f64 [n, C], calibrated
  votes: np.ndarray  # f64 [n, H, C], the probabilities of each voter; H is 1 without
  embedding: np.ndarray  # f32 [n, D], rows of norm 1
  labelled: np.ndarray  # f32 [m, D], rows of norm 1: the labelled texts, if known

  @property
  def predicted(self) -> np.ndarray:
    """i64 [n], the most probable class."""
    return self.probability.argmax(1)


@dataclass
class State:
  """Which rows are chosen, and which may still be."""

  rng: np.random.Generator
  open: np.ndarray  # bool [n]
  chosen: list[int] = field(default_factory=list)


def margin(probability: np.ndarray) -> np.ndarray:
  """The two highest probabilities' difference, f64 [n], of probabilities [n, C]."""
  top = np.partition(probability, -2, axis=1)[:, -2:]
  return top[:, 1] - top[:, 0]


def entropy(probability: np.ndarray) -> np.ndarray:
  """f64 [...], in nats, of probabilities [..., C]."""
  logs = np.log(probability, out=np.zeros_like(probability), where=probability > 0)
  return -(probability * logs).sum(-1)


def divergence(votes: np.ndarray) -> np.ndarray:
  """The Jensen-Shannon divergence, f64 [n], between voters [n, H, C]; 0 if H is 1."""
  return entropy(votes.mean(1)) - entropy(votes).mean(1)


def choose_random(candidates: Candidates, count: int, state: State) -> Sequence[int]:
  return state.rng.permutation(np.flatnonzero(state.open))[:count].tolist()


def choose_uncertain(candidates: Candidates, count: int, state: State) -> Sequence[int]:
  return _lowest(-entropy(candidates.probability), count, state.open)


def choose_margin(candidates: Candidates, count: int, state: State) -> Sequence[int]:
  return _lowest(margin(candidates.probability), count, state.open)


def choose_disputed(candidates: Candidates, count: int, state: State) -> Sequence[int]:
  return _lowest(-divergence(candidates.votes), count, state.open)


def choose_diverse(candidates: Candidates, count: int, state: State) -> Sequence[int]:
  """Greedy k-centre: each row is the farthest from all that are known or chosen."""
  embedding = candidates.embedding
  nearest = np.full(len(embedding), -np.inf)  # cosine similarity
  for begin in range(0, len(candidates.labelled), 256):
    part = embedding @ candidates.labelled[begin : begin + 256].T
    nearest = np.maximum(nearest, part.max(1))
  for row in state.chosen:
    nearest = np.maximum(nearest, embedding @ embedding[row])
  is_open, rows = state.open.copy(), []
  while len(rows) < count and is_open.any():
    if np.isinf(nearest).all():  # nothing is known yet
      row = int(state.rng.choice(np.flatnonzero(is_open)))
    else:
      row = _lowest(nearest, 1, is_open)[0]
    rows.append(row)
    is_open[row] = False
    nearest = np.maximum(nearest, embedding @ embedding[row])
  return rows


def choose_badge(candidates: Candidates, count: int, state: State) -> Sequence[int]:
  """k-means++ on the gradients of the last layer for the predicted classes.

  The gradient of a row is the outer product of `probability - one_hot(predicted)` and
  its embedding; distances are computed from the two factors.
  """
  error = candidates.probability.copy()
  error[np.arange(len(error)), candidates.predicted] -= 1
  return _spread(error, candidates.embedding, count, state)


def choose_mixed(candidates: Candidates, count: int, state: State) -> Sequence[int]:
  uncertain = np.zeros_like(state.open)
  size = POOL_FACTOR * count
  uncertain[_lowest(margin(candidates.probability), size, state.open)] = True
  inner = State(state.rng, uncertain, state.chosen)
  ones = np.ones((len(uncertain), 1))
  return _spread(ones, candidates.embedding, count, inner)


Strategy = Callable[[Candidates, int, State], Sequence[int]]
STRATEGIES: dict[str, Strategy] = {
  "mixed": choose_mixed,
  "uncertainty": choose_uncertain,
  "margin": choose_margin,
  "disagreement": choose_disputed,
  "diversity": choose_diverse,
  "badge": choose_badge,
  "random": choose_random,
}


def balanced(
  choose: Strategy, candidates: Candidates, count: int, state: State
) -> list[int]:
  """Chooses about as many rows of each predicted class as are already chosen or open.

  A class with too few open rows leaves its share to the others. The classes take turns
  in the result, so that its first rows are balanced as well.
  """
  predicted = candidates.predicted
  classes = candidates.probability.shape[1]
  taken = np.bincount(predicted[state.chosen], minlength=classes)
  available = np.bincount(predicted[state.open], minlength=classes)
  share = np.zeros(classes, np.int64)
  for _ in range(min(count, int(available.sum()))):
    level = np.where(share < available, taken + share, np.iinfo(np.int64).max)
    share[int(level.argmin())] += 1
  rows: list[int] = []
  turns: list[tuple[int, int]] = []  # (turn, row)
  for c in np.flatnonzero(share):
    inner = State(state.rng, state.open & (predicted == c), [*state.chosen, *rows])
    of_class = choose(candidates, int(share[c]), inner)
    rows += of_class
    turns += enumerate(of_class)
  return [row for _, row in sorted(turns, key=lambda turn: turn[0])]


def _lowest(value: np.ndarray, count: int, is_open: np.ndarray) -> list[int]:
  """The open rows with the lowest values, lowest first; ties by row."""
  rows = np.flatnonzero(is_open)
  return rows[np.argsort(value[rows], kind="stable")[:count]].tolist()


def _spread(left: np.ndarray, right: np.ndarray, count: int, state: State) -> list[int]:
  """k-means++ on the outer products of rows of `left` and `right`.

  Each row is drawn with a probability proportional to its squared distance from the
  nearest chosen row. The first one, if nothing is chosen yet, is the longest.
  """
  open_rows = np.flatnonzero(state.open)
  a, b = left[open_rows], right[open_rows]
  norm = (a * a).sum(1) * (b * b).sum(1)
  distance = np.full(len(open_rows), np.inf)

  def add(row: int) -> None:
    nonlocal distance
    own = (left[row] @ left[row]) * (right[row] @ right[row])
    squared = norm + own - 2 * (a @ left[row]) * (b @ right[row])
    distance = np.minimum(distance, np.maximum(squared, 0))

  for row in state.chosen:
    add(row)
  rows: list[int] = []
  is_left = np.ones(len(open_rows), bool)
  while len(rows) < count and is_left.any():
    weight = np.where(is_left, distance, 0)
    if np.isinf(distance).all():
      place = int(np.where(is_left, norm, -1).argmax())
    elif weight.sum() > 0:
      place = int(state.rng.choice(len(weight), p=weight / weight.sum()))
    else:  # only copies of chosen rows are left
      place = int(is_left.argmax())
    is_left[place] = False
    rows.append(int(open_rows[place]))
    add(rows[-1])
  return rows
