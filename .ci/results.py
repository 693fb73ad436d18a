"""Reads pytest's XML results: python .ci/results.py skipped|passed FILES.

`skipped` prints the tests that were skipped, one a line, as pytest takes them; `passed`
prints how many tests passed.
"""

import sys
import xml.etree.ElementTree as tree
from pathlib import Path


def cases(files: list[str]) -> list[tree.Element]:
  return [case for file in files for case in tree.parse(file).iter("testcase")]


def address(case: tree.Element) -> str:
  """FILE::TEST, or FILE where a module was skipped as a whole."""
  module, name = case.get("classname"), case.get("name")
  path = Path(*(module or name).split(".")).with_suffix(".py")
  return f"{path}::{name}" if module else str(path)


def main(what: str, files: list[str]) -> None:
  if what == "skipped":
    skipped = [case for case in cases(files) if case.find("skipped") is not None]
    for test in sorted({address(case) for case in skipped}):
      print(test)
  else:
    bad = ("skipped", "failure", "error")
    print(sum(all(case.find(tag) is None for tag in bad) for case in cases(files)))


if __name__ == "__main__":
  main(sys.argv[1], sys.argv[2:])
