"""Supervised training: the mean cross-entropy of the labelled texts, nothing else."""

import numpy as np
import pytest

from ssljax.method import Sizes
from ssljax.methods import supervised
from tests.golden import fake


@pytest.mark.parametrize("view", ["weak", "strong"])
@pytest.mark.parametrize("classes", [2, 5])
def test_equals_the_cross_entropy_of_the_labelled_texts(classes, view):
  random = np.random.default_rng(classes)
  method = supervised.make(view)
  take = fake.stepper(method)
  read = fake.random_logits(random, 6, classes)
  names = ("labelled.weak", "labelled.strong", "unlabelled.weak", "unlabelled.strong")
  outputs = {name: {"logits": np.full((6, classes), np.nan)} for name in names}
  outputs[f"labelled.{view}"] = {"logits": read}
  label = fake.random_labels(random, 6, classes)
  state = method.init(Sizes(classes, 6, 4, 6, 4))
  result = take(state, outputs, label, np.arange(4))
  expected = fake.mean_cross_entropy(read, label)
  assert result.totals == pytest.approx({"labelled": expected}, rel=1e-5)
  assert result.assigned.target.shape == (0, classes)
  assert method.needs.views == ()
  assert method.needs.labelled_views == (view,)
