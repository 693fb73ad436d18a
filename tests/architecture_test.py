"""The floors of the package: imports run downwards, and no two files import each other.

docs/architecture.md has the same table with what is on each floor.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the ground up; the boxes of one floor don't import each other.
FLOORS = (
  ("errors", "batch"),
  ("runtime", "options", "configs", "aims"),
  ("config", "config_files", "assets", "method"),
  ("cli", "lookup", "ops", "sharding"),
  ("methods", "wrappers", "models", "data"),
  ("run_config",),
  ("evals",),
  ("training",),
  ("inference", "sweeps"),
  ("augment", "selection", "testing"),
  ("train", "evaluate", "predict", "report", "export", "thresholds", "select"),
  ("self_train", "decide"),
  ("api", "main", "__main__"),
  ("__init__",),
)
FLOOR = {box: number for number, boxes in enumerate(FLOORS) for box in boxes}


def modules() -> dict[str, Path]:
  """Every module of the package by its dotted name."""
  paths = {}
  for path in (ROOT / "ssljax").rglob("*.py"):
    parts = path.relative_to(ROOT).with_suffix("").parts
    paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
  return paths


@cache
def imports() -> dict[str, set[str]]:
  """The modules of the package that each module imports, anywhere in its file.

  Imports for type checkers only don't count: they are never executed.
  """
  paths, graph = modules(), {}
  for name, path in paths.items():
    tree = ast.parse(path.read_text())
    skipped = {
      id(inner)
      for node in ast.walk(tree)
      if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
      for inner in ast.walk(node)
    }
    targets = set()
    for node in ast.walk(tree):
      if id(node) in skipped:
        continue
      if isinstance(node, ast.Import):
        targets |= {alias.name for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{path}: imports are absolute"
        for alias in node.names:
          inner = f"{node.module}.{alias.name}"
          targets.add(inner if inner in paths else node.module)
    graph[name] = {t for t in targets if t in paths and t != name}
  return graph


def box(module: str) -> str:
  parts = module.split(".")
  return parts[1] if len(parts) > 1 else "__init__"


def test_every_module_is_on_a_floor():
  assert {box(module) for module in modules()} == set(FLOOR)


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_run_downwards(module):
  for target in imports()[module]:
    here, there = box(module), box(target)
    if here != there:
      assert FLOOR[there] < FLOOR[here], f"{module} imports {target}"


def test_no_file_imports_itself_through_others():
  graph, done = imports(), set()

  def visit(module, path):
    assert module not in path, " -> ".join([*path, module])
    if module not in done:
      for target in sorted(graph[module]):
        # A package's __init__ may gather what its modules define.
        if not module.startswith(f"{target}."):
          visit(target, [*path, module])
      done.add(module)

  for module in graph:
    visit(module, [])


def test_importing_a_method_pulls_in_no_data_and_no_training():
  reached, stack = set(), ["ssljax.methods.fixmatch"]
  while stack:
    module = stack.pop()
    if module not in reached:
      reached.add(module)
      stack += imports()[module]
  assert {box(m) for m in reached} <= {"methods", "method", "batch", "options", "ops"}


def test_the_page_on_the_architecture_names_every_box_and_only_files_that_exist():
  page = (ROOT / "docs" / "architecture.md").read_text()
  names = re.findall(r"`([\w/]+(?:\.py|/))`", page)
  for name in names:
    assert (ROOT / "ssljax" / name).exists() or (ROOT / name).exists(), name
  named = {name.split("/")[0].removesuffix(".py") for name in names}
  assert set(FLOOR) - named <= {"__init__", "__main__"}
