"""Views by a function of the user's: what it may return, and how it is found."""

import pytest

from ssljax.augment import engines
from ssljax.augment.engine import Candidate, Source
from ssljax.errors import UserError

SOURCES = [Source(str(i), f"loaf {i}", "hot" if i == 2 else None) for i in range(5)]


def strings(sources):
  return [[f"{s.text} of rye"] for s in sources]


def forms(sources, attempt):
  return [
    [],
    ["one", "two"],
    [("text", "cold")],
    [Candidate(problem="no")],
    [f"attempt {attempt}"],
  ]


def fewer(sources):
  return [[]]


def numbers(sources):
  return [[7] for _ in sources]


def nothing(sources):
  return [None for _ in sources]


def bare(sources):
  return [source.text for source in sources]


def make(name, **more):
  return engines.make("custom", {"function": f"{__name__}:{name}", **more})


def test_a_string_is_a_new_text_and_the_response_is_kept():
  found = dict(make("strings", batch=2).make(SOURCES, 0))
  assert list(found) == [0, 1, 2, 3, 4]
  assert found[2] == [Candidate("loaf 2 of rye", "hot")]
  assert found[3] == [Candidate("loaf 3 of rye")]
  # It would say the same again.
  assert dict(make("strings").make(SOURCES, 1)) == {i: [] for i in range(5)}


def test_pairs_candidates_and_none_at_all_are_taken_and_attempts_told():
  found = [some for _, some in make("forms").make(SOURCES, 4)]
  assert found == [
    [],
    [Candidate("one"), Candidate("two")],
    [Candidate("text", "cold")],
    [Candidate(problem="no")],
    [Candidate("attempt 4")],
  ]


@pytest.mark.parametrize(
  ("name", "said"),
  [
    ("fewer", "returned 1 for 5 texts"),
    ("numbers", "returned 7 as a view"),
    ("nothing", "returned None for a text"),
    ("bare", "returned 'loaf 0' for a text"),
  ],
)
def test_a_wrong_answer_is_named(name, said):
  with pytest.raises(UserError, match=said):
    list(make(name).make(SOURCES, 0))


@pytest.mark.parametrize(
  ("keywords", "said"),
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
def test_a_mistake_is_named(keywords, said):
  with pytest.raises(UserError, match=said):
    engines.make("custom", keywords)


def test_an_error_of_the_function_is_one_line_with_its_place(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / "fails_here.py").write_text("def f(some):\n  return 1 / 0\n")
  (tmp_path / "bad_syntax.py").write_text("def f(:\n")
  (tmp_path / "bad_import.py").write_text("import no_such_thing\n")
  made = engines.make("custom", {"function": "fails_here:f"})
  with pytest.raises(
    UserError, match=r"from 0 on: ZeroDivisionError: .*fails_here.py, line 2"
  ):
    list(made.make(SOURCES, 0))
  with pytest.raises(UserError, match="SyntaxError"):
    engines.make("custom", {"function": "bad_syntax:f"})
  with pytest.raises(UserError, match=r"no_such_thing.*, which it imports"):
    engines.make("custom", {"function": "bad_import:f"})


def test_an_unknown_engine_gives_the_nearest_name():
  with pytest.raises(UserError, match="did you mean 'custom'"):
    engines.make("costum", {})
  with pytest.raises(UserError, match=r"it is one of .*custom"):
    engines.make("zzz", {})


def test_an_engine_gets_of_what_is_shared_what_it_asks_for(monkeypatch):
  from ssljax.augment.engines import custom

  def factory(*, function: str, seed: int = 0, views: int = 1):
    return function, seed, views

  monkeypatch.setattr(custom, "make", factory)
  shared = {"seed": 3, "views": 2, "data": "here"}
  assert engines.make("custom", {"function": "f"}, shared) == ("f", 3, 2)
  assert engines.make("custom", {"function": "f", "seed": 9}, shared) == ("f", 9, 2)


def test_a_version_changes_the_settings():
  one, two = make("strings"), make("strings", version="2")
  assert one.settings != two.settings
  assert make("strings").stored
  assert not make("strings", stored=False).stored
