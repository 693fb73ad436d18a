"""What a method keeps of all texts is written in place: no step copies a table."""

import re

import jax
import pytest

from benchmarks import method_overhead

ROWS = 50_000


@pytest.mark.parametrize("case", method_overhead.all_cases())
def test_a_step_copies_no_table(case):
  run, state, arguments = method_overhead.prepared(case, 15, ROWS)
  tables = {leaf.shape for leaf in jax.tree.leaves(state) if ROWS in leaf.shape}
  compiled = run.lower(state, *arguments(0)).compile().as_text()
  for shape in tables:
    sizes = ",".join(map(str, shape))
    assert not re.findall(rf"= \w+\[{sizes}\]\S* copy\(", compiled), shape
