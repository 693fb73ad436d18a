"""Each method that declares a filter filters, at any length of the run."""

import pytest

from ssljax import methods
from ssljax.testing import simulated

# (steps, unlabelled texts). In the first, most of the texts are never visited, and
# version 0.1.0 uses nearly all labels; in the second, each is visited 15 times.
# `python -m benchmarks.filters` has the other combinations as well.
RUNS = ((300, 78_000), (1250, 4_000))
FILTERING = [
  name for name in methods.names() if methods.make({"name": name}).needs.filters
]
CASES = [
  pytest.param(name, *run, marks=() if name == "fixmatch" else pytest.mark.slow)
  for name in FILTERING
  for run in RUNS
]


@pytest.mark.parametrize(("name", "steps", "pool"), CASES)
def test_a_filter_uses_a_part_of_the_labels_and_these_are_better(name, steps, pool):
  simulate = simulated.simulator(methods.make({"name": name}), steps, pool)
  for level, value in simulated.LEVELS.items():
    used = simulate(value)
    if level == "middle":
      assert 0.2 <= used.share <= 0.95
    assert used.purity >= used.accuracy + 0.015
    assert used.correlation > 0.1  # of weight and correctness


def test_a_filter_that_uses_everything_is_seen():
  everything = methods.make({"name": "fixmatch", "threshold": 0.0})
  used = simulated.simulator(everything, 300, 4_000)(simulated.LEVELS["middle"])
  assert used.share == 1
  assert used.purity == pytest.approx(used.accuracy)
