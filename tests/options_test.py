"""Options: described by annotations, checked, listed."""

import math
import re
from typing import Annotated, Literal

import pytest

from ssljax import methods, options, wrappers
from ssljax.augment import engines
from ssljax.config import KEYS
from ssljax.errors import UserError
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
    ({"kind": "c"}, "kind='c': it must be one of a, b"),
    ({"views": ()}, "give one or more names"),
    ({"views": ("x", "")}, "give one or more names"),
    ({"views": "x"}, "give one or more names"),
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


@pytest.mark.parametrize("package", [methods, wrappers, engines])
def test_every_keyword_says_what_it_means(package):
  assert package.names()
  for name in package.names():
    described = package.describe(name)
    unexplained = [key for key, option in described.items() if not option.meaning]
    assert unexplained == [], name


def test_engines_list_required_keywords_as_well():
  function = engines.describe("custom")["function"]
  assert options.listing({"function": function}) == [
    "function=REQUIRED  the function to call, as package.module:function (string)"
  ]


@pytest.mark.parametrize("name", engines.names())
def test_the_defaults_of_an_engine_pass(name):
  described = engines.describe(name)
  defaults = {key: option.default for key, option in described.items()}
  given = {k: v for k, v in defaults.items() if v is not options.REQUIRED}
  options.check(described, given)


def test_lists_and_unions_are_in_words():
  described = engines.describe("llm")
  assert described["prompt"].accepts == "string or strings"
  assert described["temperature"].accepts == "float or floats"
  assert engines.describe("adversarial")["forms"].accepts == "strings"


@pytest.mark.parametrize(
  ("engine", "keywords", "message"),
  [
    ("custom", {"function": "m:f", "batch": 0}, "--config.batch=0: it must be 1 or"),
    ("custom", {"function": "m:f", "stored": 1}, "--config.stored=1: it must be true"),
    ("eda", {"alpha_swap": 1.5}, "--config.alpha_swap=1.5: it must be 0 to 1"),
    (
      "llm",
      {"base_url": "http://h/v1", "model": "m", "part": "all"},
      "--config.part='all': it must be one of text, response, both",
    ),
  ],
)
def test_engines_check_their_keywords(engine, keywords, message):
  with pytest.raises(UserError, match=re.escape(message)):
    engines.make(engine, keywords)


def test_the_nearest_name_is_suggested():
  assert options.nearest("stepz", ["steps", "seed"]) == "; did you mean 'steps'?"
  assert options.nearest("zzz", ["steps", "seed"]) == "; there are seed, steps"
