"""docs/methods.md agrees with the code: its rows, states, defaults and papers."""

import math
import re
from pathlib import Path

import jax
import pytest

from ssljax import methods, wrappers
from ssljax.errors import UserError
from ssljax.method import Sizes
from tests import tiny

PAGE = (Path(__file__).parent.parent / "docs" / "methods.md").read_text()
SIZES = [
  Sizes(2, 20, 300, 8, 24, 100, 3, (12, 8), 16),
  Sizes(5, 50, 1000, 16, 32, 500, 4, (10,) * 5, 48),
]


def tables() -> list[list[dict[str, str]]]:
  """The rows of each table, as column -> cell."""
  tables = []
  for block in re.findall(r"(?:^\|.*\n)+", PAGE, flags=re.MULTILINE):
    names, _, *rows = [
      [cell.strip() for cell in line.strip("|").split("|")]
      for line in block.splitlines()
    ]
    tables.append([dict(zip(names, row, strict=True)) for row in rows])
  return tables


def rows(column: str) -> dict[str, dict[str, str]]:
  """All rows of the tables with this column, by its cell."""
  rows = (row for table in tables() for row in table if column in row)
  return {row[column].strip("`"): row for row in rows}


def value(formula: str, sizes: Sizes, width: int) -> int:
  """Evaluates formulas such as "3 N C + 2"."""
  letters = {
    "N": sizes.unlabelled,
    "n": sizes.labelled,
    "C": sizes.classes,
    "B": sizes.batch,
    "U": sizes.unlabelled_batch,
    "D": sizes.width,
    "S": sizes.steps,
    "W": width,
  }
  product = re.sub(r"(?<=[\w)])\s+(?=[\w(])", "*", formula)
  return eval(product or "0", {"__builtins__": {}, "min": min}, letters)


def count(state) -> int:
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state))


def test_each_file_has_a_row():
  assert sorted(rows("method")) == methods.names()
  assert sorted(rows("wrapper")) == wrappers.names()


@pytest.mark.parametrize("name", methods.names())
def test_views_heads_and_state(name):
  method, row = methods.make({"name": name}), rows("method")[name]
  assert row["views"] == ", ".join(method.needs.views)
  assert row["heads"] == ", ".join(method.needs.heads)
  if method.needs.teacher:
    assert row["state"] == "the average of the parameters"
    return
  widths = [head.width for head in method.needs.heads.values()]
  for sizes in SIZES:
    state = jax.eval_shape(lambda sizes=sizes: method.init(sizes))
    assert value(row["state"], sizes, max(widths, default=0)) == count(state)


def test_the_state_with_a_virtual_class():
  formula = re.search(r"`variant=virtual_class`\s+has (.+) numbers", PAGE)[1]
  method = methods.make({"name": "marginmatch", "variant": "virtual_class"})
  for sizes in SIZES:
    state = jax.eval_shape(lambda sizes=sizes: method.init(sizes))
    assert int(value(formula, sizes, 0)) == count(state)


def test_defaults():
  assert sorted(rows("with")) == methods.names()
  for name, row in (rows("with") | rows("wrapper")).items():
    kind = wrappers if name in wrappers.names() else methods
    defaults = kind.defaults(name)
    shown = [
      f"{k} {v:g}" if type(v) is float else f"{k} {v}" for k, v in defaults.items()
    ]
    assert row["defaults"] == ", ".join(shown), name


def test_published_values():
  found = rows("preset")
  for kind in (methods, wrappers):
    for name in kind.names():
      complete, defaults = (
        kind.complete({"name": name}, "published"),
        kind.defaults(name),
      )
      shown = [
        f"{k} {v:.4g}" if type(v) is float else f"{k} {v}"
        for k, v in complete.items()
        if k != "name" and v != defaults[k]
      ]
      cell = found.pop(name)["values"] if shown else ""
      assert sorted(cell.split(", ")) == sorted(shown or [""]), name
  assert not found


def test_keywords_that_fit_the_run():
  for table in tables():
    for row in table if "version 0.1.0" in table[0] else ():
      keyword = row["keyword"].strip("`")
      names = re.findall(r"\w+", row["methods and wrappers"])
      for name in names:
        kind = wrappers if name in wrappers.names() else methods
        option = kind.describe(name)[keyword]
        assert f"{option.default}" == row["default"], name
        assert option.absent == type(option.absent)(_parsed(row["version 0.1.0"])), name


def _parsed(cell: str):
  return {"True": True, "False": False}.get(cell, cell)


@pytest.mark.parametrize("name", wrappers.names())
def test_the_state_that_a_wrapper_adds(name):
  inner = methods.make({"name": "fixmatch"})
  method, row = wrappers.wrap(inner, {"name": name}), rows("wrapper")[name]
  for sizes in SIZES:
    state = jax.eval_shape(lambda sizes=sizes: method.init(sizes))
    assert value(row["state"], sizes, 0) == count(state)


def test_papers():
  for name, row in (rows("method") | rows("wrapper")).items():
    kind = methods if name in methods.names() else wrappers
    docstring = (Path(kind.__file__).parent / f"{name}.py").read_text().split('"""')[1]
    for number in re.findall(r"\[(\d{4}\.\d{5})\]", row["paper"]):
      assert number in docstring, name


def supports(wrapper: str, name: str) -> bool:
  """`name`: a method, or `variant=virtual_class` for the one that has it."""
  case = "marginmatch:virtual_class" if name.startswith("variant=") else name
  try:
    wrappers.wrap(tiny.method(case), {"name": wrapper})
  except UserError:
    return False
  return True


def test_which_methods_the_wrappers_support():
  sentence = re.search(r"All wrappers support\s([^.]*)\.", PAGE)[1]
  for case in re.findall(r"`(\S+)`", sentence):
    assert all(supports(wrapper, case) for wrapper in wrappers.names()), case
  unsupported = rows("wrappers")
  cells = {name: cell for cell in unsupported for name in re.findall(r"\w+", cell)}
  assert sorted(cells) == wrappers.names()
  for wrapper, cell in cells.items():
    text = unsupported[cell]["do not support"].replace("`marginmatch` with ", "")
    cases = re.findall(r"`(\S+)`", text)
    assert cases
    assert not [case for case in cases if supports(wrapper, case)], wrapper
