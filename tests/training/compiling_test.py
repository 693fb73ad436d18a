"""A run says that it compiles, and how long that took the last time."""

import json
import re
import types

import jax
import jax.numpy as jnp
import pytest

from configs import base
from ssljax.assets import fetch
from ssljax.training import compiling


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """An empty cache folder, in which even small programs are stored."""
  monkeypatch.setattr(fetch, "cache_folder", lambda: tmp_path)
  settings = {
    "jax_compilation_cache_dir": str(tmp_path / "xla"),
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
  }
  before = {name: getattr(jax.config, name) for name in settings}
  for name, value in settings.items():
    jax.config.update(name, value)
  jax.experimental.compilation_cache.compilation_cache.reset_cache()
  yield tmp_path
  for name, value in before.items():
    jax.config.update(name, value)
  jax.experimental.compilation_cache.compilation_cache.reset_cache()


def test_only_a_step_that_is_compiled_is_announced(cache, monkeypatch):
  batches = types.SimpleNamespace(planned_shapes=2)
  config = base.get_config("fixmatch").to_dict()
  job = types.SimpleNamespace(config=config, batches=batches)
  lines, compiled = [], set()

  def run(shape, patience=0.0):
    """Compiles and runs a step for `shape` as a new process would."""
    monkeypatch.setattr(compiling, "PATIENCE", patience)
    jax.clear_caches()
    with compiling.announced(job, shape, compiled, lines.append):
      jax.jit(lambda x: jnp.sort(jnp.sin(x) @ x))(jnp.ones((len(shape),) * 2))
    said, lines[:] = lines[:], []
    return said

  (first,) = run("a")
  assert re.fullmatch(
    r"compiling the train step \(shape 1 of 2\); this may take a minute or more; "
    "later runs load it from the cache",
    first,
  )
  assert run("a", patience=30.0) == []  # from the cache
  compiled.add("a")
  assert run("a" * 2, patience=30.0) == []  # compiled before anybody would wonder
  compiled.clear()
  compiled.update(["a", "aa"])
  (third,) = run("aaa")
  assert re.search(r"\(shape 3\); this took \d+ s the last time", third)
  record = json.loads((cache / compiling.RECORD).read_text())
  assert len(record) == 1
  (cache / compiling.RECORD).write_text("{")  # damaged
  (fourth,) = run("aaaa")
  assert "may take a minute" in fourth
  assert run("aa") == []  # a known shape
