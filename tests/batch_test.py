"""The name of a second candidate is a string that remembers its view."""

import copy
import pickle

import jax

from ssljax.batch import SecondCandidate


def test_a_second_candidate_is_a_string_with_its_view():
  name = SecondCandidate("strong")
  assert (name, name.first) == ("strong_2", "strong")
  assert {"strong_2": 1}[name] == 1


def test_copies_keep_the_view():
  name = SecondCandidate("strong")
  for other in (pickle.loads(pickle.dumps(name)), copy.deepcopy(name)):
    assert (other, other.first) == (name, "strong")
  (key,) = jax.tree.map(lambda value: value, {name: 1})
  assert key.first == "strong"
