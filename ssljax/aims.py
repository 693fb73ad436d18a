"""Aims: what a threshold should achieve, such as "fpr=1%"."""

import re
from typing import NamedTuple

import numpy as np

EXAMPLES = (
  *("fpr=1%", "recall=95%", "precision=90%", "review=5%", "cost=10:1", "best_f1"),
)
SHARES = ("fpr", "recall", "precision", "review")
LEAST = 1e-8  # of a share or a cost; `str` writes nine digits
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
      return f"{self.kind}={_plain(100 * self.value)}%"
    return f"cost={_plain(self.value)}:1" if self.kind == "cost" else self.kind


def _plain(number: float) -> str:
  """The number without an exponent, which `parse` doesn't read.

  >>> _plain(0.00005), _plain(1e7), _plain(100 * 0.99999999)
  ('0.00005', '10000000', '99.999999')
  """
  return np.format_float_positional(number, 9, unique=False, fractional=False, trim="-")


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
    if LEAST <= share <= 1 - LEAST:
      return Aim(match[1], share)
  elif (match := _COST.fullmatch(text)) and float(match[2]):
    ratio = float(match[1]) / float(match[2])
    if LEAST <= ratio <= 1 / LEAST:
      return Aim("cost", ratio)
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
  share = f"{_plain(100 * aim.value)}%"
  return {
    "fpr": f"at most {share} of harmless texts flagged",
    "recall": f"at least {share} of harmful texts flagged",
    "precision": f"at least {share} of flagged texts harmful",
    "review": f"at most {share} of all texts flagged",
    "cost": f"lowest cost, if a missed harmful text costs {_plain(aim.value)} false "
    "alarms",
    "best_f1": "highest F1",
  }[aim.kind]
