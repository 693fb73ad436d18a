"""What a method keeps of all texts is written in place: no step copies a table."""

import re

import jax
import pytest

from benchmarks import method_overhead

ROWS = 50_000
# Draws its wrong rows anew in turns: three tables of a number a row are copied.
COPIES = {"marginmatch:virtual_class"}
CASES = [case for case in method_overhead.all_cases() if case not in COPIES]


@pytest.mark.parametrize("case", CASES)
def test_a_step_copies_no_table(case):
  run, state, arguments = method_overhead.prepared(case, 15, ROWS)
  tables = {leaf.shape for leaf in jax.tree.leaves(state) if ROWS in leaf.shape}
  compiled = run.lower(state, *arguments(0)).compile().as_text()
  for shape in tables:
    sizes = ",".join(map(str, shape))
    assert not re.findall(rf"= \w+\[{sizes}\]\S* copy\(", compiled), shape
