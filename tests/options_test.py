"""Options: described by annotations, checked, listed."""

import math
from typing import Annotated, Literal

import pytest

from ssljax import methods, options, wrappers
from ssljax.config import KEYS
from ssljax.options import Absent, Count, Range, Share


def make(
  rate: Annotated[Share, "how often", Absent(0.1)] = 0.5,
  count: Count = 3,
  kind: Literal["a", "b"] = "a",
  views: tuple[str, ...] = ("x",),
  flag: bool = False,
  level: Annotated[int, Range(0, 7)] = 1,
):
  return rate, count, kind, views, flag, level


DESCRIBED = options.describe(make)


def test_annotations_describe_an_option():
  rate = DESCRIBED["rate"]
  assert (rate.type, rate.range, rate.meaning) == (float, (0, 1), "how often")
  assert (rate.default, rate.absent) == (0.5, 0.1)
  assert DESCRIBED["count"].absent == 3  # the default, if nothing else is said
  assert DESCRIBED["kind"].choices == ("a", "b")


def test_the_listing_has_default_meaning_and_accepted_values():
  assert options.listing(DESCRIBED, "--") == [
    "--rate=0.5    how often (float, 0 to 1)",
    "--count=3     (int, 1 or more)",
    "--kind=a      (a | b)",
    "--views=x     (strings)",
    "--flag=False  (bool)",
    "--level=1     (int, 0 to 7)",
  ]


@pytest.mark.parametrize(
  "values",
  [{"rate": 1}, {"rate": 0.0}, {"views": ["x", "y"]}, {"flag": True}, {"level": 7}],
)
def test_values_in_range_pass(values):
  options.check(DESCRIBED, values)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"rate": 1.5}, "rate=1.5: it must be 0 to 1"),
    ({"rate": math.nan}, "rate=nan: it must be 0 to 1"),
    ({"rate": "0.5"}, "rate='0.5': it must be a number"),
    ({"rate": True}, "rate=True: it must be a number"),
    ({"count": 0}, "count=0: it must be 1 or more"),
    ({"count": 1.0}, "count=1.0: it must be an integer"),
    ({"level": 8}, "level=8: it must be 0 to 7"),
    ({"kind": "c"}, "kind='c': it is one of a, b"),
    ({"views": ()}, "give one name or several"),
    ({"views": ("x", "")}, "give one name or several"),
    ({"views": "x"}, "give one name or several"),
    ({"flag": 1}, "flag=1: it must be true or false"),
  ],
)
def test_other_values_are_refused(values, message):
  with pytest.raises(ValueError, match="=") as error:
    options.check(DESCRIBED, values)
  assert message in str(error.value)


def test_every_key_and_keyword_has_a_default_that_passes():
  options.check(KEYS, {name: option.default for name, option in KEYS.items()})
  for package in (methods, wrappers):
    for name in package.names():
      described = package.describe(name)
      defaults = {key: option.default for key, option in described.items()}
      options.check(described, defaults)


def test_every_key_says_what_it_means():
  assert [name for name, option in KEYS.items() if not option.meaning] == []


def test_the_nearest_name_is_suggested():
  assert options.nearest("stepz", ["steps", "seed"]) == "; did you mean 'steps'?"
  assert options.nearest("zzz", ["steps", "seed"]) == "; there are seed, steps"
