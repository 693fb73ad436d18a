"""What a method keeps of all texts is written in place: no step copies a table."""

import os
import re

import jax
import pytest

from benchmarks import method_overhead

ROWS = 50_000
HLO = {"float32": "f32", "int32": "s32", "bool": "pred"}


# As users compile: for the other tests conftest.py turns optimisations off.
LEFT_OUT = "fusion_emitters" in os.environ["XLA_FLAGS"]
FUSED = {"xla_cpu_use_fusion_emitters": True} if LEFT_OUT else {}


@pytest.fixture(autouse=True)
def optimised():
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", before)
  jax.clear_caches()


@pytest.mark.parametrize("case", method_overhead.all_cases())
def test_a_step_copies_no_table(case):
  run, state, arguments = method_overhead.prepared(case, 15, ROWS)
  leaves = [leaf for leaf in jax.tree.leaves(state) if ROWS in leaf.shape]
  tables = {f"{HLO[a.dtype.name]}[{','.join(map(str, a.shape))}]" for a in leaves}
  compiled = run.lower(state, *arguments(0)).compile(FUSED).as_text()
  for table in tables:
    assert not re.findall(rf"= {re.escape(table)}\S* copy\(", compiled), table
