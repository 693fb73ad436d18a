"""docs/methods.md against the code: no row without a file, no file without a row."""

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
  """The rows of each table by the names of its columns."""
  found = []
  for block in re.findall(r"(?:^\|.*\n)+", PAGE, flags=re.MULTILINE):
    names, _, *rows = [
      [cell.strip() for cell in line.strip("|").split("|")]
      for line in block.splitlines()
    ]
    found.append([dict(zip(names, row, strict=True)) for row in rows])
  return found


def rows(kind: str) -> dict[str, dict[str, str]]:
  return {row[kind].strip("`"): row for some in tables() for row in some if kind in row}


def value(formula: str, sizes: Sizes, width: int) -> int:
  """What "3 N C + 2" comes to."""
  letters = {
    "N": sizes.unlabelled,
    "n": sizes.labelled,
    "C": sizes.classes,
    "B": sizes.batch,
    "U": sizes.unlabelled_batch,
    "D": sizes.width,
    "W": width,
  }
  product = re.sub(r"(?<=[\w)])\s+(?=[\w(])", "*", formula)
  return eval(product or "0", {"__builtins__": {}, "min": min}, letters)


def numbers(state) -> int:
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state))


def test_each_file_has_a_row_and_each_row_a_file():
  assert sorted(rows("method")) == methods.names()
  assert sorted(rows("wrapper")) == wrappers.names()


@pytest.mark.parametrize("name", methods.names())
def test_views_heads_and_state_are_those_of_the_code(name):
  method, row = methods.make({"name": name}), rows("method")[name]
  assert row["views"] == ", ".join(method.needs.views)
  assert row["heads"] == ", ".join(method.needs.heads)
  if method.needs.teacher:
    assert row["state"] == "the average of the parameters"
    return
  widths = [head.width for head in method.needs.heads.values()]
  for sizes in SIZES:
    state = jax.eval_shape(lambda sizes=sizes: method.init(sizes))
    assert value(row["state"], sizes, max(widths, default=0)) == numbers(state)


def test_the_virtual_class_carries_what_is_told():
  told = re.search(r"`variant=virtual_class`\s+carries (.+) numbers", PAGE)[1]
  method = methods.make({"name": "marginmatch", "variant": "virtual_class"})
  for sizes in SIZES:
    state = jax.eval_shape(lambda sizes=sizes: method.init(sizes))
    assert int(value(told, sizes, 0)) == numbers(state)


def test_defaults_are_those_of_the_code():
  assert sorted(rows("with")) == methods.names()
  for name, row in (rows("with") | rows("wrapper")).items():
    kind = wrappers if name in wrappers.names() else methods
    known = kind.defaults(name)
    shown = [f"{k} {v:g}" if type(v) is float else f"{k} {v}" for k, v in known.items()]
    assert row["defaults"] == ", ".join(shown), name


@pytest.mark.parametrize("name", wrappers.names())
def test_a_wrapper_adds_the_state_that_is_told(name):
  inner = methods.make({"name": "fixmatch"})
  method, row = wrappers.wrap(inner, {"name": name}), rows("wrapper")[name]
  for sizes in SIZES:
    state = jax.eval_shape(lambda sizes=sizes: method.init(sizes))
    assert value(row["state"], sizes, 0) == numbers(state)


def test_papers_are_those_of_the_files():
  for name, row in (rows("method") | rows("wrapper")).items():
    kind = methods if name in methods.names() else wrappers
    head = (Path(kind.__file__).parent / f"{name}.py").read_text().split('"""')[1]
    for number in re.findall(r"\[(\d{4}\.\d{5})\]", row["paper"]):
      assert number in head, name


def taken(name: str, wrapper: str) -> bool:
  """`name`: a method; its `variant=virtual_class` is one that has it."""
  case = "marginmatch:virtual_class" if name.startswith("variant=") else name
  method = tiny.method(case)
  try:
    wrappers.wrap(method, {"name": wrapper})
  except UserError:
    return False
  return True


def test_wrappers_take_and_refuse_what_the_page_says():
  sentence = re.search(r"All take ([^.]*)\.", PAGE)[1]
  for case in re.findall(r"`(\S+)`", sentence):
    assert all(taken(case, name) for name in wrappers.names()), case
  refused = rows("wrappers")
  named = {name: cell for cell in refused for name in re.findall(r"\w+", cell)}
  assert sorted(named) == wrappers.names()
  for name, cell in named.items():
    plain = re.sub(r"`marginmatch` with ", "", refused[cell]["do not take"])
    cases = re.findall(r"`(\S+)`", plain)
    assert cases
    assert not [case for case in cases if taken(case, name)], name
