"""Reads pytest's XML results: python .ci/results.py skipped|passed FILES.

`skipped` prints the skipped tests, one per line, as arguments for pytest. `passed`
prints how many tests passed.
"""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def read_cases(files: list[str]) -> list[ElementTree.Element]:
  return [case for file in files for case in ElementTree.parse(file).iter("testcase")]


def test_id(case: ElementTree.Element) -> str:
  """Returns FILE::TEST, or FILE if a whole module was skipped."""
  module, name = case.get("classname"), case.get("name")
  path = Path(*(module or name).split(".")).with_suffix(".py")
  return f"{path}::{name}" if module else str(path)


def main(command: str, files: list[str]) -> None:
  cases = read_cases(files)
  if command == "skipped":
    skipped = [case for case in cases if case.find("skipped") is not None]
    for name in sorted({test_id(case) for case in skipped}):
      print(name)
  else:
    bad = ("skipped", "failure", "error")
    print(sum(all(case.find(tag) is None for tag in bad) for case in cases))


if __name__ == "__main__":
  main(sys.argv[1], sys.argv[2:])
