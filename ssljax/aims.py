"""Aims: what a threshold should achieve, such as "fpr=1%"."""

import re
from typing import NamedTuple

EXAMPLES = (
  *("fpr=1%", "recall=95%", "precision=90%", "review=5%", "cost=10:1", "best_f1"),
)
SHARES = ("fpr", "recall", "precision", "review")
_SHARE = re.compile(rf"({'|'.join(SHARES)})[=_](\d+(?:\.\d+)?)%")  # 0.1.0 wrote fpr_1%
_COST = re.compile(r"cost=(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)")


class Aim(NamedTuple):
  """What a threshold should achieve.

  `value` is a rate for `fpr` (at most), `recall` (at least), `precision` (at least) and
  `review` (share of flagged texts, at most); for `cost`, what a missed harmful text
  costs, in false alarms; and 0 for `best_f1`.
  """

  kind: str
  value: float = 0.0

  def __str__(self) -> str:
    if self.kind in SHARES:
      return f"{self.kind}={100 * self.value:g}%"
    return f"cost={self.value:g}:1" if self.kind == "cost" else self.kind


def parse(text: str) -> Aim:
  """Reads an aim.

  >>> parse("fpr=1%")
  Aim(kind='fpr', value=0.01)
  >>> str(parse("fpr_1%"))  # as version 0.1.0 wrote it
  'fpr=1%'

  Raises:
    ValueError: it isn't an aim.
  """
  if text == "best_f1":
    return Aim(text)
  if match := _SHARE.fullmatch(text):
    share = float(match[2]) / 100
    if 0 < share < 1:
      return Aim(match[1], share)
  elif (match := _COST.fullmatch(text)) and float(match[1]) and float(match[2]):
    return Aim("cost", float(match[1]) / float(match[2]))
  raise ValueError(f"{text!r} is not an aim; aims are such as {', '.join(EXAMPLES)}")


def canonical(name: str) -> str:
  """The name of an aim as `str` writes it; any other name stays the same."""
  try:
    return str(parse(name))
  except ValueError:
    return name


def is_aim(name: str) -> bool:
  try:
    parse(name)
  except ValueError:
    return False
  return True


def describe(text: str) -> str:
  """An aim in words, for reports."""
  aim = parse(text)
  share = f"{100 * aim.value:g}%"
  return {
    "fpr": f"at most {share} of harmless texts flagged",
    "recall": f"at least {share} of harmful texts flagged",
    "precision": f"at least {share} of flagged texts harmful",
    "review": f"at most {share} of all texts flagged",
    "cost": f"lowest cost, if a missed harmful text costs {aim.value:g} false alarms",
    "best_f1": "highest F1",
  }[aim.kind]
