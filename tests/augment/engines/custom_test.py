"""The custom engine: what a user's function may return, and how it is imported."""

import sys

import pytest

from ssljax.augment import engines
from ssljax.augment.engine import Candidate, Source
from ssljax.errors import UserError

SOURCES = [Source(str(i), f"loaf {i}", "hot" if i == 2 else None) for i in range(5)]


def strings(sources):
  return [[f"{s.text} of rye"] for s in sources]


def all_kinds(sources, attempt):
  return [
    [],
    ["one", "two"],
    [("text", "cold")],
    [Candidate(problem="no")],
    [f"attempt {attempt}"],
  ]


def fewer(sources):
  return [[]]


def leaves(sources):
  sys.exit(0)


def no_list(sources):
  return None


def numbers(sources):
  return [[7] for _ in sources]


def nothing(sources):
  return [None for _ in sources]


def bare(sources):
  return [source.text for source in sources]


def make(name, **more):
  return engines.make("custom", {"function": f"{__name__}:{name}", **more})


def test_a_string_is_a_new_text_and_the_response_is_kept():
  views = dict(make("strings", batch=2).make(SOURCES, 0))
  assert list(views) == [0, 1, 2, 3, 4]
  assert views[2] == [Candidate("loaf 2 of rye", "hot")]
  assert views[3] == [Candidate("loaf 3 of rye")]
  # Without a parameter `attempt` it would return the same again.
  assert dict(make("strings").make(SOURCES, 1)) == {i: [] for i in range(5)}


def test_a_function_may_return_any_number_of_strings_pairs_or_candidates():
  views = [views for _, views in make("all_kinds").make(SOURCES, 4)]
  assert views == [
    [],
    [Candidate("one"), Candidate("two")],
    [Candidate("text", "cold")],
    [Candidate(problem="no")],
    [Candidate("attempt 4")],
  ]


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("fewer", "returned list of length 1 for 5 texts"),
    ("leaves", "failed on 5 texts .the first has id 0.: SystemExit"),
    ("no_list", "returned NoneType for 5 texts; return a list of views"),
    ("numbers", "returned 7 as a view"),
    ("nothing", "returned None for a text"),
    ("bare", "returned 'loaf 0' for a text"),
  ],
)
def test_invalid_results(name, message):
  with pytest.raises(UserError, match=message):
    list(make(name).make(SOURCES, 0))


@pytest.mark.parametrize(
  ("keywords", "message"),
  [
    ({"function": "nothing"}, "package.module:function"),
    ({"function": ""}, "package.module:function"),
    ({"function": "no.such.module:f"}, "no"),
    ({"function": f"{__name__}:nowhere"}, "has no function 'nowhere'"),
    ({"function": f"{__name__}:SOURCES"}, "has no function 'SOURCES'"),
    ({"function": f"{__name__}:strings", "batch": 0}, "batch=0"),
    ({"function": f"{__name__}:strings", "bach": 1}, "did you mean 'batch'"),
    ({}, "engine custom needs --config.function"),
  ],
)
def test_invalid_settings(keywords, message):
  with pytest.raises(UserError, match=message):
    engines.make("custom", keywords)


def test_errors_of_the_function_name_its_file_and_line(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / "fails_here.py").write_text("def f(sources):\n  return 1 / 0\n")
  (tmp_path / "bad_syntax.py").write_text("def f(:\n")
  (tmp_path / "bad_import.py").write_text("import no_such_thing\n")
  engine = engines.make("custom", {"function": "fails_here:f"})
  with pytest.raises(
    UserError, match=r"id 0\): ZeroDivisionError: .*fails_here.py, line 2"
  ):
    list(engine.make(SOURCES, 0))
  with pytest.raises(UserError, match="SyntaxError"):
    engines.make("custom", {"function": "bad_syntax:f"})
  with pytest.raises(UserError, match=r"no_such_thing.*bad_import.py, line 1"):
    engines.make("custom", {"function": "bad_import:f"})


def test_an_unknown_engine_suggests_the_nearest_name():
  with pytest.raises(UserError, match="did you mean 'custom'"):
    engines.make("costum", {})
  with pytest.raises(UserError, match=r"there are .*custom"):
    engines.make("zzz", {})


def test_an_engine_gets_the_shared_values_it_has_parameters_for(monkeypatch):
  from ssljax.augment.engines import custom

  def factory(*, function: str, seed: int = 0, views: int = 1):
    return function, seed, views

  monkeypatch.setattr(custom, "make", factory)
  shared = {"seed": 3, "views": 2, "data": "here"}
  assert engines.make("custom", {"function": "f"}, shared) == ("f", 3, 2)
  assert engines.make("custom", {"function": "f", "seed": 9}, shared) == ("f", 9, 2)


def test_a_version_changes_the_settings():
  assert make("strings").settings != make("strings", version="2").settings
  assert make("strings").stored
  assert not make("strings", stored=False).stored
