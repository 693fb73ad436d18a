"""Strategies choose what they promise, and nothing that isn't open."""

import numpy as np
import pytest

from ssljax.selection import strategies
from ssljax.selection.strategies import STRATEGIES, Candidates, State

N, C, H, D = 200, 3, 4, 8


def random_candidates(seed=0, known=5):
  rng = np.random.default_rng(seed)
  unit = lambda x: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
  votes = rng.dirichlet(np.ones(C), (N, H))
  embedding, labelled = unit(rng.normal(size=(N, D))), unit(rng.normal(size=(known, D)))
  return Candidates(votes.mean(1), votes, embedding, labelled)


def new_state(open_rows=None, seed=0, chosen=()):
  is_open = np.ones(N, bool) if open_rows is None else np.isin(np.arange(N), open_rows)
  return State(np.random.default_rng(seed), is_open, list(chosen))


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("count", [1, 7, 60, 500])
def test_different_open_rows_are_chosen_and_the_same_for_a_seed(name, count):
  candidates, open_rows = random_candidates(), np.arange(0, N, 2)
  choose = lambda: STRATEGIES[name](candidates, count, new_state(open_rows))
  rows = choose()
  assert len(rows) == len({*rows}) == min(count, len(open_rows))
  assert {*rows} <= {*open_rows.tolist()}
  assert [*rows] == [*choose()]


@pytest.mark.parametrize("name", ["random", "badge", "mixed"])
def test_another_seed_chooses_other_rows(name):
  candidates = random_candidates()
  rows = [STRATEGIES[name](candidates, 20, new_state(seed=seed)) for seed in (0, 1)]
  assert {*rows[0]} != {*rows[1]}


def test_uncertainty_and_margin_take_the_extreme_rows_in_order():
  candidates = random_candidates()
  top = np.sort(candidates.probability, axis=1)
  expected = np.argsort(top[:, -1] - top[:, -2])[:10]
  assert STRATEGIES["margin"](candidates, 10, new_state()) == expected.tolist()
  entropy = -(candidates.probability * np.log(candidates.probability)).sum(1)
  expected = np.argsort(-entropy)[:10]
  assert STRATEGIES["uncertainty"](candidates, 10, new_state()) == expected.tolist()


def test_disagreement_ignores_rows_about_which_all_voters_are_unsure():
  candidates = random_candidates()
  votes = np.full((N, H, C), 1 / C)
  votes[17] = np.eye(C)[[0, 1, 2, 0]]
  votes[23] = np.eye(C)[[0, 0, 0, 1]]
  candidates = candidates._replace(votes=votes, probability=votes.mean(1))
  assert STRATEGIES["disagreement"](candidates, 2, new_state()) == [17, 23]


def test_diversity_takes_the_group_that_has_no_label_first():
  rng = np.random.default_rng(0)
  group = np.arange(N) % D
  embedding = np.eye(D)[group] + 0.01 * rng.normal(size=(N, D))
  embedding = (embedding / np.linalg.norm(embedding, axis=1, keepdims=True)).astype(
    "f4"
  )
  candidates = random_candidates()._replace(embedding=embedding, labelled=embedding[:5])
  rows = STRATEGIES["diversity"](candidates, 3, new_state())
  assert {*group[rows]} == {5, 6, 7}
  rows = STRATEGIES["diversity"](candidates, 2, new_state(chosen=[6]))
  assert {*group[rows]} == {5, 7}


def test_distances_are_those_of_the_gradients():
  """The expected values come from whole gradients, of which `badge` forms none."""
  candidates = random_candidates()
  error = candidates.probability - np.eye(C)[candidates.predicted]
  gradient = np.einsum("nc,nd->ncd", error, candidates.embedding).reshape(N, -1)
  expected, is_open = [int((gradient**2).sum(1).argmax())], np.ones(N, bool)
  rng = np.random.default_rng(0)
  for _ in range(9):
    is_open[expected[-1]] = False
    squared = ((gradient[:, None] - gradient[expected]) ** 2).sum(-1).min(1) * is_open
    expected.append(int(rng.choice(N, p=squared / squared.sum())))
  assert STRATEGIES["badge"](candidates, 10, new_state()) == expected


def test_mixed_spreads_its_choice_over_uncertain_rows():
  candidates = random_candidates()
  limit = np.sort(strategies.margin(candidates.probability))[50 - 1]
  embedding = candidates.embedding.copy()
  uncertain = np.flatnonzero(strategies.margin(candidates.probability) <= limit)
  embedding[uncertain[5:]] = embedding[uncertain[0]]  # copies of one text
  candidates = candidates._replace(embedding=embedding)
  rows = STRATEGIES["mixed"](candidates, 5, new_state())
  assert {*rows} <= {*uncertain.tolist()}
  assert len(np.unique(embedding[rows], axis=0)) == 5


def test_classes_are_balanced_as_far_as_they_have_rows():
  candidates = random_candidates()
  predicted = candidates.predicted
  of_class = [np.flatnonzero(predicted == c).tolist() for c in range(C)]
  open_rows = of_class[0][:2] + of_class[1][:30] + of_class[2][:30]
  choose = STRATEGIES["margin"]
  rows = strategies.balanced(choose, candidates, 20, new_state(open_rows))
  assert np.bincount(predicted[rows]).tolist() == [2, 9, 9]
  assert predicted[rows].tolist() == [0, 1, 2] * 2 + [1, 2] * 7  # they take turns
  state = new_state(open_rows[2:], chosen=of_class[1][30:36])
  rows = strategies.balanced(choose, candidates, 10, state)
  assert np.bincount(predicted[rows], minlength=C).tolist() == [0, 2, 8]
  assert len(strategies.balanced(choose, candidates, 500, new_state(open_rows))) == 62
