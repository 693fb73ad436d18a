"""Texts of train that stand in validation or test: found, refused, dropped."""

import json
import sys
import unicodedata

import numpy as np
import pytest

from ssljax.data import contamination
from ssljax.data.dedup import exact, near, normalize
from ssljax.data.records.records import Splits, from_rows
from ssljax.errors import UserError
from tests import runs

LONG = "a loaf of bread is baked in a hot oven for about forty minutes or more"


def row(id, text, response=None, views=()):
  views = [{"kind": k, "text": t, "response": r, "origin": ""} for k, t, r in views]
  return {"id": id, "text": text, "response": response, "label": 0, "views": views}


def splits(train, test):
  validation = [row("v", "something else")]
  train, validation, test = (from_rows(part) for part in (train, validation, test))
  return Splits(train, validation, test, ("a",), (), {})


@pytest.mark.parametrize(
  ("one", "other", "same"),
  [
    (("Bake  bread", None), ("bake\nbread ", None), True),
    (("ﬁne", None), ("fine", None), True),
    (("ba\u200bke\u00ad bread", None), ("bake bread\ufeff", None), True),
    (("bake bread", None), ("bake breads", None), False),
    (("bake", "bread"), ("Bake", "Bread"), True),
    (("bake", "bread"), ("bake", "rolls"), False),
    (("bake", "bread"), ("bake bread", None), False),
    (("bake", ""), ("bake", None), True),
  ],
)
def test_the_same_but_for_case_space_and_form(one, other, same):
  assert (normalize.text_digest(*one) == normalize.text_digest(*other)) == same


def test_no_character_of_class_cf_counts():
  every = (chr(c) for c in range(sys.maxunicode + 1))
  unseen = "".join(c for c in every if unicodedata.category(c) == "Cf")
  assert len(unseen) > 150
  assert normalize.normalize_text(f"ba{unseen}ke") == "bake"


@pytest.mark.parametrize(
  ("train", "test", "found"),
  [
    (("fry", "fish"), ("FRY", None), True),
    (("fry", None), ("FRY", "fish"), True),
    (("fry", "fish"), ("Fry", "fish"), True),
    (("fry", "fish"), ("fry", "meat"), False),
    (("fry", ""), ("fry", None), True),
    (("fry", ""), ("fry", "fish"), True),
    (("fry", None), ("bake", "fry"), False),
  ],
)
def test_without_a_response_prompts_are_compared(train, test, found):
  one, other = (
    from_rows([row("a", "one"), row("b", *train)]),
    from_rows([row("t", *test)]),
  )
  known = exact.index_digests([from_rows([row("v", "none")]), other])
  hit = [1, 0] if found else [-1, -1]
  np.testing.assert_array_equal(exact.duplicate_rows(one, known), [[-1, -1], hit])
  as_view = from_rows([row("a", "one", train[1], views=[("llm", train[0], None)])])
  assert exact.duplicate_views(as_view, known) == ([(0, 0, (1, 0))] if found else [])
  overlaps = near.find_overlaps(one, {"test": other}, 0.6)
  assert [(f.id, f.exact) for f in overlaps] == ([("b", True)] if found else [])


def test_a_view_has_the_response_of_its_row_unless_it_has_its_own():
  known = exact.index_digests([from_rows([row("t", "fry", "fish")])])
  views = [("a", "Fry", None), ("b", "Fry", ""), ("c", "Fry", "meat")]
  one = from_rows([row("r", "cook", "fish", views)])
  assert [k for _, k, _ in exact.duplicate_views(one, known)] == [0, 1]
  for response, found in (("fish", ["a", "b"]), ("meat", ["c"])):
    other = from_rows([row("t", "fry", response)])
    overlaps = near.find_overlaps(one, {"test": other}, 0.6)
    assert [(f.view, f.exact) for f in overlaps] == [(kind, True) for kind in found]


def test_overlap_is_refused_and_the_place_named():
  data = splits([row("a", "one"), row("b", "Two ")], [row("t", "two")])
  with pytest.raises(UserError, match=r"row 2: .*in test \(.*row 1\).*on_overlap=drop"):
    exact.resolve_overlap(data, "error")


def test_overlap_is_dropped_rows_and_views():
  views = [("llm", "TWO", None), ("llm", "own", None)]
  data = splits([row("a", "one", views=views), row("b", "two")], [row("t", "two")])
  clean, dropped = exact.resolve_overlap(data, "drop")
  assert clean.train.column("id") == ["a"]
  assert [v["text"] for v in clean.train.column("views")[0]] == ["own"]
  assert "1 rows and 1 views of train" in dropped
  assert clean.notes[-1] == dropped
  assert exact.resolve_overlap(clean, "error") == (clean, "")


def test_a_view_alone_is_refused():
  data = splits([row("a", "one", views=[("llm", "two", None)])], [row("t", "two")])
  with pytest.raises(UserError, match="views"):
    exact.resolve_overlap(data, "error")


@pytest.mark.parametrize(
  "changed",
  [
    LONG.replace("forty", "fifty"),
    LONG.title() + "?",
    LONG.replace("bread ", "bread, "),
    "".join(c + "\u200b" for c in LONG.replace("hot", "warm")),
    LONG + ", or so they say",
  ],
)
def test_a_text_with_a_word_changed_is_near(changed):
  train = from_rows([row("a", changed), row("b", LONG[::-1])])
  (found,) = near.find_overlaps(train, {"test": from_rows([row("t", LONG)])}, 0.6)
  assert (found.id, found.other_id, found.exact) == ("a", "t", False)
  ours, theirs = near.character_ngrams(changed), near.character_ngrams(LONG)
  assert found.similarity == len(ours & theirs) / len(ours | theirs)


def test_scripts_without_spaces_have_near_texts_too():
  text = "如何在家里用烤箱烤一个又大又软的面包"
  train = from_rows([row("a", text + "？"), row("b", text[:9] + "小" + text[10:])])
  found = near.find_overlaps(train, {"test": from_rows([row("t", text)])}, 0.3)
  assert [f.id for f in found] == ["a", "b"]


def test_views_are_compared_as_their_row_is():
  views = [("eda", LONG, None), ("llm", LONG.replace("hot", "warm"), None)]
  train = from_rows([row("a", "bake", views=views)])
  found = near.find_overlaps(train, {"test": from_rows([row("t", LONG)])}, 0.6)
  assert [(f.view, f.exact) for f in found] == [("eda", True), ("llm", False)]
  assert found[0].similarity == 1.0


def test_pairs_are_near_as_pairs_and_prompts_where_one_has_no_response():
  similar, other = LONG.replace("forty", "fifty"), "No, that I will not tell you."
  train = from_rows([row("a", similar, other), row("b", similar)])
  tests = {
    "pairs": from_rows([row("t", LONG, "Yes: the bread stands on the table.")]),
    "prompts": from_rows([row("t", LONG)]),
    "answers": from_rows([row("t", "Of bread?", other), row("u", LONG, other + ".")]),
  }
  found = near.find_overlaps(train, tests, 0.6)
  assert [(f.id, f.other, f.other_id) for f in found] == [
    ("a", "prompts", "t"),
    ("a", "answers", "u"),
    ("b", "pairs", "t"),
    ("b", "prompts", "t"),
    ("b", "answers", "u"),
  ]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.8, 0.95])
def test_pairs_at_the_threshold_are_found(threshold):
  # Sets of 200 grams each of which k are shared: J = k / (400 - k).
  shared = int(np.ceil(400 * threshold / (1 + threshold)))
  index = near.NearestIndex(threshold)
  for pair in range(50):
    one, other = (
      frozenset(f"{pair} {i}" for i in range(first, first + 200))
      for first in (0, 200 - shared)
    )
    index.add(pair, other)
    met = index.table.query(near.minhash(one))
    assert pair in met
    assert len(met) == 1


def write(folder, **parts):
  for name, rows in parts.items():
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def command(*given):
  return runs.command("ssljax.data.contamination", *map(str, given))


@pytest.mark.parametrize("copies", [False, True])
def test_the_command_says_what_it_found(tmp_path, copies):
  views = [{"kind": "llm", "text": "FIVE", "response": None, "origin": ""}]
  some = [
    {"id": "a", "text": LONG},
    {"id": "b", "text": "two", "views": views},
    {"id": "c", "text": "Six"},
  ]
  write(
    tmp_path,
    train=[{"id": "d", "text": "one"}, *(some if copies else [])],
    val=[{"text": "three"}],
    test=[{"text": LONG + " than that"}, {"text": "five"}],
    # Neither labels nor ids of another set matter.
    other=[{"text": "six", "label": "bad", "id": "x"}, {"text": "ten", "id": "x"}],
  )
  data = tmp_path / "train.jsonl", tmp_path / "val.jsonl", tmp_path / "test.jsonl"
  output = tmp_path / "new" / "found.json"
  done = command(
    f"--data={','.join(map(str, data))}",
    f"--against={tmp_path}/other.jsonl",
    f"--output={output}",
  )
  assert done.returncode == copies, done.stderr
  said = [line.strip() for line in done.stdout.splitlines()]
  at = {
    name: i
    for i, line in enumerate(said)
    for name in ("test (", "other")
    if name in line
  }
  if copies:
    assert said[at["test ("] + 2] == "near texts: 1: a = test:1"
    assert said[at["test ("] + 3] == "exact views: 1: b = test:2"
    assert said[at["other"] + 1] == "exact texts: 1: c = x"
  assert len(json.loads(output.read_text())) == 3 * copies


def test_train_alone_is_compared_with_a_file_and_with_nothing_it_is_refused(tmp_path):
  folder = tmp_path / "data"
  folder.mkdir()
  write(folder, train=[{"text": LONG}])
  write(tmp_path, other=[{"text": LONG}])
  done = command(f"--data={folder}", f"--against={tmp_path}/other.jsonl")
  assert (done.returncode, "exact texts: 1" in done.stdout) == (1, True)
  done = command(f"--data={folder}")
  assert done.returncode == 2
  assert "no validation and no test split" in done.stderr


@pytest.mark.parametrize(
  ("name", "content", "more", "said"),
  [
    ("other.jsonl", "", {}, "no rows"),
    ("other.csv", "prompt,label\n", {}, "no rows"),
    ("other.csv", "prompt,label\na,1\n", {}, "no column 'text'"),
    ("other.jsonl", '{"text": "six"}', {"output": "."}, "cannot be used"),
    ("other.jsonl", '{"text": "six"}', {"output": "dataset.json"}, "ends in .json"),
    ("other.jsonl", '{"text": "six"}', {"output": "/proc/x.json"}, "cannot be written"),
    ("other.jsonl", '{"text": "six"}', {"threshold": 1.0}, "--threshold=1"),
    (None, "", {}, r"other\.jsonl"),
  ],
)
def test_a_mistake_is_not_taken_for_a_finding(
  tmp_path, name, content, more, said, capsys
):
  write(tmp_path, train=[{"text": "six"}])
  if name:
    (tmp_path / name).write_text(content)
  against = [str(tmp_path / (name or "other.jsonl"))]
  given = {"threshold": 0.6, "output": ""} | more
  with pytest.raises(UserError, match=said) as caught:
    contamination.report_overlaps(f"{tmp_path}/train.jsonl", against, **given)
  assert caught.value.code == 2
  assert not capsys.readouterr().out


def test_punctuation_and_case_are_in_no_gram():
  assert near.character_ngrams("Bake, (white) bread?") == near.character_ngrams(
    "bake white bread"
  )
  assert near.character_ngrams("面包，白的？") == near.character_ngrams("面包 白的")
  assert near.character_ngrams("?!") == {"?!"}  # where nothing else is there
