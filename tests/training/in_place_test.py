"""Per-text tables in a method's state are updated in place: no step copies one."""

import os
import re

import jax
import pytest

from benchmarks import method_overhead

ROWS = 50_000
HLO = {"float32": "f32", "int32": "s32", "bool": "pred"}


# Compiled as users do; conftest.py turns optimisations off for the other tests.
TURNED_OFF = "fusion_emitters" in os.environ["XLA_FLAGS"]
OPTIONS = {"xla_cpu_use_fusion_emitters": True} if TURNED_OFF else {}


@pytest.fixture(scope="module", autouse=True)
def _optimised():
  jax.clear_caches()
  before = jax.config.read("jax_disable_most_optimizations")
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", before)
  jax.clear_caches()


@pytest.mark.slow
@pytest.mark.parametrize("case", method_overhead.all_cases())
def test_a_step_copies_no_table(case):
  run, state, arguments = method_overhead.prepare(case, 15, ROWS)
  leaves = [leaf for leaf in jax.tree.leaves(state) if ROWS in leaf.shape]
  if not leaves:
    return  # it keeps no table
  tables = {f"{HLO[a.dtype.name]}[{','.join(map(str, a.shape))}]" for a in leaves}
  program = run.lower(state, *arguments(0)).compile(OPTIONS).as_text()
  for table in tables:
    assert not re.findall(rf"= {re.escape(table)}\S* copy\(", program), table
