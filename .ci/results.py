"""Reads pytest's XML results: python .ci/results.py skipped|passed FILES.

`skipped` prints the test files that hold a skipped test, one a line; `passed` prints
how many tests passed.
"""

import sys
import xml.etree.ElementTree as tree
from pathlib import Path


def cases(files: list[str]) -> list[tree.Element]:
  return [case for file in files for case in tree.parse(file).iter("testcase")]


def home(case: tree.Element) -> str:
  """The file of a test, from its dotted name."""
  # A module skipped as a whole has its name where others have the test's.
  words = f"{case.get('classname')}.{case.get('name')}".strip(".").split(".")
  for count in range(len(words), 0, -1):
    path = Path(*words[:count]).with_suffix(".py")
    if path.is_file():
      return str(path)
  return ".".join(words)


def main(what: str, files: list[str]) -> None:
  if what == "skipped":
    found = {home(case) for case in cases(files) if case.find("skipped") is not None}
    for file in sorted(found):
      print(file)
  else:
    bad = ("skipped", "failure", "error")
    print(sum(all(case.find(tag) is None for tag in bad) for case in cases(files)))


if __name__ == "__main__":
  main(sys.argv[1], sys.argv[2:])
