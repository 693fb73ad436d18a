"""What every test starts from: JAX on the CPU, nothing compiled kept between runs."""

import importlib.metadata
import os
import re
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Eight virtual devices: what runs on one must run on many.
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
  )
# Most of the time goes into compilation of programs that run a few times: with less of
# LLVM, and of XLA's own fusion, it takes half as long. (Later versions do not know the
# flag, and end at one that they do not know.)
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if importlib.metadata.version("jaxlib").startswith("0.10."):
  os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
# The fork server of tests/runs.py imports this checkout, from whatever folder it starts.
os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)

import pytest
from absl import flags
from xdist.scheduler import LoadScopeScheduling

flags.FLAGS.mark_as_parsed()  # grain reads flags, and only absl's `run` parses them


class ByFileAndCase(LoadScopeScheduling):
  """A file is tested in one process, but for the battery: there, each case is."""

  def _split_scope(self, nodeid):
    file, _, test = nodeid.partition("::")
    if not file.endswith("methods_test.py"):
      return file
    return f"{file}::{re.split(r'[][-]', test)[1:2]}"


def pytest_xdist_make_scheduler(config, log):
  return ByFileAndCase(config, log)


def pytest_collection_modifyitems(items):
  """Files of whole processes come first: each takes minutes, and goes in one piece."""

  def short(item):
    runs = vars(item.module).get("runs")
    whole = runs is not None and runs.__name__ == "tests.runs"
    return not (whole or item.get_closest_marker("slow"))

  items.sort(key=short)


@pytest.fixture
def stdin(tmp_path):
  """Gives bytes to standard input."""
  kept, path = os.dup(0), tmp_path / "stdin"

  def give(data):
    path.write_bytes(data)
    file = os.open(path, os.O_RDONLY)
    os.dup2(file, 0)
    os.close(file)

  yield give
  os.dup2(kept, 0)
  os.close(kept)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """An exported folder with an untrained classifier."""
  from tests import scored

  return scored.export_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def classifier(model):
  from ssljax import SafetyClassifier

  return SafetyClassifier.load(model)


@pytest.fixture
def unused(classifier, monkeypatch):
  """A classifier that must not score."""

  def score(texts):
    raise AssertionError("scored")

  monkeypatch.setattr(classifier, "logits", score)
  return classifier
