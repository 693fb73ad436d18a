"""What a method keeps of all texts is written in place: no step copies a table."""

import re

import jax
import pytest

from benchmarks import method_overhead
from ssljax import methods

ROWS = 50_000
ROUNDS = {"vat"}  # passes through an encoder, which the benchmark has not


@pytest.mark.parametrize("name", [n for n in methods.names() if n not in ROUNDS])
def test_a_step_copies_no_table(name):
  run, state, arguments = method_overhead.prepared(name, 15, ROWS)
  tables = {leaf.shape for leaf in jax.tree.leaves(state) if ROWS in leaf.shape}
  compiled = run.lower(state, *arguments(0)).compile().as_text()
  for shape in tables:
    sizes = ",".join(map(str, shape))
    assert not re.findall(rf"= \w+\[{sizes}\]\S* copy\(", compiled), shape
