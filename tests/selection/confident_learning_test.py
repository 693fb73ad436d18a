"""Confident learning finds wrong labels, from predictions that are out of sample."""

import numpy as np
import pytest

from ssljax.errors import UserError
from ssljax.selection import confident_learning

N, D = 300, 16


def groups(classes=3, seed=0):
  """Embeddings of norm 1 that show the class, and the labels."""
  rng = np.random.default_rng(seed)
  label = np.arange(N) % classes
  embedding = np.eye(D)[label] + 0.3 * rng.normal(size=(N, D)) / D**0.5
  return embedding / np.linalg.norm(embedding, axis=1, keepdims=True), label


@pytest.mark.parametrize("classes", [2, 3])
def test_most_wrong_labels_are_found_and_no_others(classes):
  embedding, label = groups(classes)
  wrong = np.random.default_rng(1).choice(N, 15, replace=False)
  given = label.copy()
  given[wrong] = (given[wrong] + 1) % classes
  probability = confident_learning.cross_validated(
    embedding, given, np.arange(N), classes, seed=0
  )
  np.testing.assert_allclose(probability.sum(1), 1)
  found = confident_learning.find_doubts(probability, given)
  assert {row for row, _ in found} <= {*wrong}
  assert len(found) >= 10
  assert all(suggested == label[row] for row, suggested in found)
  gap = [probability[row, given[row]] - probability[row, other] for row, other in found]
  assert gap == sorted(gap)


def test_predictions_are_out_of_sample():
  """Random labels can't be predicted, but a model repeats those it was trained on."""
  rng = np.random.default_rng(0)
  embedding = rng.normal(size=(N, N))
  embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
  label = rng.integers(0, 2, N)
  probability = confident_learning.cross_validated(
    embedding, label, np.arange(N), 2, seed=0
  )
  accuracy = (probability.argmax(1) == label).mean()
  assert abs(accuracy - 0.5) < 3.5 * 0.5 / N**0.5
  twice = np.tile(np.arange(N), 2)  # a copy of a text must not be trained on either
  probability = confident_learning.cross_validated(
    embedding[twice], label[twice], twice, 2, seed=0
  )
  accuracy = (probability.argmax(1) == label[twice]).mean()
  assert abs(accuracy - 0.5) < 3.5 * 0.5 / N**0.5


def test_a_class_is_suggested_only_if_it_is_as_probable_as_in_its_own_texts():
  probability = np.array([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.2, 0.8]])
  label = np.array([0, 0, 1, 1])
  assert confident_learning.find_doubts(probability, label) == []  # 0.6 is below 0.85
  probability[1] = 0.1, 0.9
  assert confident_learning.find_doubts(probability, label) == [(1, 1)]


def test_a_class_without_texts_is_never_suggested():
  probability = np.array([[0.1, 0.1, 0.8], [0.2, 0.7, 0.1]])
  assert confident_learning.find_doubts(probability, np.array([0, 1])) == []


def test_a_class_with_one_text_is_refused():
  label = np.array([0] * 9 + [1])
  with pytest.raises(UserError, match="2 or more of each class"):
    confident_learning.cross_validated(np.eye(10), label, np.arange(10), 2, 0)
