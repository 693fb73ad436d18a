"""Checks that `pytest -m quick --check-modules` runs code of every module of ssljax.

A module counts if one of its functions was called. If it has none, it counts if it was
imported. conftest.py imports the hooks of this file.
"""

import ast
import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ssljax"
# Files that need an optional package, which makes their tests skip.
OPTIONAL = {
  "ssljax/augment/engines/backtranslation/marian.py": "torch",
  "ssljax/augment/engines/llm/": "openai",
  "ssljax/data/batches/tftext.py": "tensorflow_text",
  "ssljax/models/convert.py": "torch",
}
SLOW = (
  "ssljax/augment/ray_runner.py",  # its tests start a cluster
  "ssljax/augment/engines/eda/glove.py",  # reads a large table
  *("ssljax/__main__.py", "ssljax/augment/__main__.py"),  # run in other processes
)
called: set[str] = set()  # files of the package with a function that was called
imported: set[str] = set()  # files of the package that were imported
missing: list[str] = []  # files that no selected test uses


def pytest_addoption(parser):
  parser.addoption(
    "--check-modules",
    action="store_true",
    help="fail if the selected tests call no function of some module of ssljax",
  )


def pytest_configure(config):
  if config.getoption("--check-modules"):
    prefix = str(PACKAGE)

    def trace(frame, event, argument):
      code = frame.f_code
      if code.co_filename.startswith(prefix) and is_function(code):
        called.add(code.co_filename)

    sys.settrace(trace)


def is_function(code) -> bool:
  """Whether code is a function's, and not that of a module, class or comprehension."""
  return bool(code.co_flags & inspect.CO_OPTIMIZED) and code.co_name[0] != "<"


def has_functions(file: str) -> bool:
  tree = ast.parse(Path(file).read_text(encoding="utf-8"))
  return any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))


def imported_files() -> set[str]:
  files = {getattr(module, "__file__", None) for module in sys.modules.values()}
  return {file for file in files if file and file.startswith(str(PACKAGE))}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
  """Collects, in the main process, what one xdist worker has used."""
  output = getattr(node, "workeroutput", {})
  called.update(output.get("called", ()))
  imported.update(output.get("imported", ()))


def pytest_sessionfinish(session):
  if not session.config.getoption("--check-modules"):
    return
  sys.settrace(None)
  imported.update(imported_files())
  if hasattr(session.config, "workeroutput"):  # an xdist worker
    session.config.workeroutput.update(called=[*called], imported=[*imported])
    return
  absent = tuple(
    file for file, package in OPTIONAL.items() if not importlib.util.find_spec(package)
  )
  for path in sorted(PACKAGE.rglob("*.py")):
    file, name = str(path), path.relative_to(PACKAGE.parent).as_posix()
    used = file in (called if has_functions(file) else imported)
    if not used and not name.startswith(absent) and name not in SLOW:
      missing.append(name)
  if missing:
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
  for file in missing:
    terminalreporter.write_line(f"no selected test calls a function of {file}")
