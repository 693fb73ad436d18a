"""Sets up JAX for all tests and selects the quick ones.

`pytest` leaves out the tests marked `faults`. `pytest -m quick` also leaves out those
marked `slow` (a test, a file, or a parameter); of tests/methods_test.py, one case is
quick. Mark a test slow if it takes more than about three seconds on an idle machine;
the summary of a quick run lists those that did. With --check-modules, a run fails if it
calls no function of some module of ssljax (tests/module_check.py).
"""

import importlib.metadata
import itertools
import os
import re
import signal
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Eight virtual devices: what runs on one must run on many.
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
  )
# Most of the time is spent compiling programs that run only a few times. Fewer LLVM
# passes and XLA's older fusion emitters halve it. (Later versions don't know the flag,
# and XLA aborts on unknown flags.)
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if importlib.metadata.version("jaxlib").startswith("0.10."):
  os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
# Processes import this checkout, whatever folder they start in.
os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)

import pytest
from absl import flags
from xdist.scheduler import LoadScopeScheduling

from tests.module_check import (  # noqa: F401
  pytest_addoption,
  pytest_configure,
  pytest_sessionfinish,
  pytest_testnodedown,
)
from tests.module_check import pytest_terminal_summary as module_summary

# In the background job of a shell, Python starts with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
flags.FLAGS.mark_as_parsed()  # grain reads flags, which only absl's `run` parses

LONG = 3.0  # seconds from which a quick test is reported
# Of tests/methods_test.py, these cases are quick.
QUICK_CASES = ("fixmatch",)


def case_of(test: str) -> str:
  """Returns "fixmatch" for "test_method[fixmatch-check]"; "" without parameters."""
  return (re.split(r"[][-]", test)[1:2] or [""])[0]


class ByFileAndCase(LoadScopeScheduling):
  """Keeps a file in one process. The method battery is split by case instead."""

  def _split_scope(self, nodeid):
    file, _, test = nodeid.partition("::")
    if not file.endswith("methods_test.py"):
      return file
    return f"{file}::{case_of(test)}"


def pytest_xdist_make_scheduler(config, log):
  return ByFileAndCase(config, log)


def is_slow(item) -> bool:
  return any(item.get_closest_marker(name) for name in ("slow", "faults"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Marks the quick tests, and starts the files that take longest first."""
  for item in items:
    if item.path.name == "methods_test.py" and case_of(item.name) not in QUICK_CASES:
      item.add_marker(pytest.mark.slow)
    if not is_slow(item):
      item.add_marker(pytest.mark.quick)

  def starts_late(item):
    runs = vars(item.module).get("runs")
    runs_commands = runs is not None and runs.__name__ == "tests.runs"
    return not (runs_commands or is_slow(item))

  items.sort(key=starts_late)


def pytest_terminal_summary(terminalreporter, config):
  module_summary(terminalreporter)
  if config.option.markexpr != "quick":
    return
  seconds: dict[str, float] = {}
  for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
    if hasattr(report, "duration"):
      seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
  for name, duration in sorted(seconds.items(), key=lambda item: -item[1]):
    if duration > LONG:
      terminalreporter.write_line(f"{duration:.1f} s, long for a quick test: {name}")


@pytest.fixture
def stdin(tmp_path):
  """Returns a function that makes bytes the standard input."""
  original, path = os.dup(0), tmp_path / "stdin"

  def give(data):
    path.write_bytes(data)
    file = os.open(path, os.O_RDONLY)
    os.dup2(file, 0)
    os.close(file)

  yield give
  os.dup2(original, 0)
  os.close(original)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """Folder of an exported, untrained classifier."""
  from tests import scored

  return scored.export_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def classifier(model):
  from ssljax import SafetyClassifier

  return SafetyClassifier.load(model)


@pytest.fixture
def unused(classifier, monkeypatch):
  """A classifier that must not be asked for scores."""

  def score(*texts):
    raise AssertionError("the classifier scored texts")

  monkeypatch.setattr(classifier, "logits", score)
  return classifier


@pytest.fixture(scope="module")
def old_runs(tmp_path_factory):
  """Folder of two runs of version 0.1.0, with their encoder.

  `finished` is a MultiMatch run; `killed` is a FreeMatch run that keeps a moving
  average of the parameters.
  """
  from tests import old_files

  folder = old_files.extract(tmp_path_factory.mktemp("old"))
  for name in ("finished", "killed"):
    old_files.set_keys(folder / name, encoder=str(folder / "encoder"))
  return folder
