"""Supervised training: the mean cross-entropy of the labelled texts, nothing else."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import supervised
from tests.golden import fake


@pytest.mark.parametrize("classes", [2, 5])
def test_equals_the_cross_entropy_of_the_labelled_texts(classes):
  random = np.random.default_rng(classes)
  method = supervised.make()
  take = fake.simple_stepper(method)
  outputs = fake.Logits(
    fake.random_logits(random, 6, classes),
    np.full((4, classes), np.nan),
    np.full((4, classes), np.nan),
  )
  label = fake.random_labels(random, 6, classes)
  state = method.init(Sizes(classes, 6, 4, 6, 4))
  result = take(state, outputs, label, np.arange(4))
  expected = fake.supervised_loss(outputs, label)
  assert result.totals == pytest.approx({"labelled": expected}, rel=1e-5)
  assert result.assigned.target.shape == (0, classes)
  assert method.needs.views == ()
