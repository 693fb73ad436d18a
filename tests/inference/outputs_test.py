"""All outputs of a classifier agree with its logits, for runs and exported folders."""

import numpy as np
import pytest

from ssljax import SafetyClassifier

TEXTS = ["calm bread", ("harm the bake", "steal"), " ", "hurt", "\u2603"]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["finished", "export"])
def test_voters_have_the_logits_as_their_mean(old_runs, folder):
  classifier = SafetyClassifier.load(old_runs / folder)  # MultiMatch
  expected, outputs = classifier.logits(TEXTS), classifier.outputs(TEXTS)
  np.testing.assert_allclose(outputs.logits, expected.logits, atol=1e-5)
  assert outputs.votes.shape == (5, 3, 2)
  np.testing.assert_allclose(outputs.votes.mean(1), expected.logits, atol=1e-5)
  assert np.ptp(outputs.votes[[0, 1, 3]], axis=1).min() > 0
  assert outputs.unreadable.tolist() == expected.unreadable.tolist()
  assert outputs.embeddings.shape == (5, 16)
  assert np.isnan(outputs.embeddings[2]).all()
  assert np.isfinite(outputs.embeddings[[0, 1, 3]]).all()


def test_a_single_classifier_is_its_only_voter(classifier):
  outputs = classifier.outputs(TEXTS)
  np.testing.assert_array_equal(outputs.votes[:, 0], outputs.logits)
  empty = classifier.outputs([" ", ""])
  assert np.isnan(empty.logits).all()
  assert len(empty.votes) == len(empty.embeddings) == 2
