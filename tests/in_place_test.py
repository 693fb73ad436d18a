"""What a method keeps of all texts is written in place: no step copies a table."""

import re

import jax
import pytest

from benchmarks import method_overhead

ROWS = 50_000
HLO = {"float32": "f32", "int32": "s32", "bool": "pred"}


@pytest.mark.parametrize("case", method_overhead.all_cases())
def test_a_step_copies_no_table(case):
  run, state, arguments = method_overhead.prepared(case, 15, ROWS)
  leaves = [leaf for leaf in jax.tree.leaves(state) if ROWS in leaf.shape]
  tables = {f"{HLO[a.dtype.name]}[{','.join(map(str, a.shape))}]" for a in leaves}
  compiled = run.lower(state, *arguments(0)).compile().as_text()
  for table in tables:
    assert not re.findall(rf"= {re.escape(table)}\S* copy\(", compiled), table
