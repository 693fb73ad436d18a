"""EDA: seeded by the text alone, at the rates it is given, in the text as it stands."""

import json
import re

import numpy as np
import pytest

from ssljax.augment import words as pieces
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.engines.eda import engine as eda
from ssljax.augment.engines.eda import glove, tfidf
from ssljax.errors import UserError

TEXT = (
  "How do I bake a large loaf of bread, quickly, in a small (gas) oven?\n\n"
  "- Flour and salt\n- see https://example.com/bread-2 or ask bob@example.org!\n"
)
OTHERS = [f"Please tell me story number {i} about the old baker." for i in range(40)]
NEAR = {
  "bake": ("roast", "cook"),
  "bread": ("toast",),
  "large": ("big", "huge"),
  "small": ("tiny",),
  "story": ("tale",),
  "old": ("aged",),
}
ALL = eda.OPERATIONS


@pytest.fixture(autouse=True)
def near(monkeypatch):
  monkeypatch.setattr(glove, "neighbours", lambda threshold: NEAR)


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  data = tmp_path / "data"
  data.mkdir()
  with open(data / "train.jsonl", "w") as file:
    for text in [TEXT, *OTHERS]:
      file.write(json.dumps({"text": text, "label": 0}) + "\n")
  return str(data)


def sources(texts):
  return [Source(str(i), text) for i, text in enumerate(texts)]


def run(engine, rows, numbers=(0,)):
  """Row by row the candidates of those numbers."""
  each = [dict(engine.make(rows, number)) for number in numbers]
  return {i: [c for found in each for c in found[i]] for i in range(len(rows))}


def one(text=TEXT, seed=0, **keywords) -> str:
  engine = eda.make(seed=seed, **keywords)
  ((_, (candidate,)),) = engine.make([Source("0", text)], 0)
  return candidate.text


def test_same_seed_same_views_whatever_stands_beside(folder):
  rows = sources([TEXT, *OTHERS])
  keywords, three = {"operations": ALL, "data": folder}, range(3)
  whole = run(eda.make(seed=4, **keywords), rows, three)
  backwards = run(eda.make(seed=4, **keywords), rows[::-1], three)
  apart = [run(eda.make(seed=4, **keywords), [row], three)[0] for row in rows]
  assert [whole[i] for i in range(41)] == apart
  assert [backwards[40 - i] for i in range(41)] == apart
  assert run(eda.make(seed=5, **keywords), rows, three) != whole
  assert run(eda.make(seed=4, **keywords), rows, range(3, 6)) != whole


def test_views_take_the_operations_in_turn():
  (views,) = run(eda.make(), sources([TEXT]), range(4)).values()
  before = len(pieces.split(TEXT).words)
  sizes = sorted(len(pieces.split(view.text).words) - before for view in views)
  assert sizes[0] < 0  # deletion
  assert sizes[1] == sizes[2] == 0  # swap, replacement
  assert sizes[3] > 0  # insertion


@pytest.mark.parametrize("name", ALL)
def test_each_operation_leaves_the_rest_of_the_text(name, folder):
  marks = r"https://example\.com/bread-2|bob@example\.org|\n|\?|\(|\)|- "
  for seed in range(60):
    new = one(seed=seed, operations=(name,), data=folder, **{f"alpha_{name}": 0.2})
    assert new != TEXT
    assert re.findall(marks, new) == re.findall(marks, TEXT)
    assert not re.search(r"  | [,?!)]|\( |^ ", new)


@pytest.mark.parametrize("name", ["replace", "insert"])
def test_synonyms_only_of_words_that_have_some(name):
  old = set(pieces.split(TEXT).words)
  for seed in range(60):
    new = set(pieces.split(one(seed=seed, operations=(name,))).words)
    added = new - old
    assert added
    assert added <= {"roast", "cook", "toast", "big", "huge", "tiny"}
    assert len(old - new) == (len(added) if name == "replace" else 0)


def test_stop_words_stay(monkeypatch):
  monkeypatch.setattr(
    glove,
    "neighbours",
    lambda threshold: {"not": ("xx",), "don't": ("xx",), "of": ("xx",)},
  )
  engine = eda.make(operations=("replace",), alpha_replace=1.0)
  (found,) = run(engine, sources(["Don't talk of it, and do not laugh!"])).values()
  assert found == [Candidate(problem="no word to change")]


def test_capitals_and_repeated_words():
  text = "Story by story: the STORY of a story."
  assert one(text, operations=("replace",)) == "Tale by tale: the TALE of a tale."


def test_rates(folder):
  text = " ".join(f"{'abcdefghij'[i % 10]}{'xyz'[i % 3]}w" for i in range(20_000))
  n = len(one(text, operations=("delete",), alpha_delete=0.2).split())
  assert abs(n / 20_000 - 0.8) < 0.01
  n = len(one(text, operations=("span",), alpha_span=0.3).split())
  assert n == 14_000
  new = one(text, operations=("swap",), alpha_swap=0.1).split()
  moved = np.mean([a != b for a, b in zip(new, text.split(), strict=True)])
  assert 0.1 < moved < 0.2  # 2000 pairs, of which some hold equal words
  new = one(text, operations=("tfidf",), alpha_tfidf=0.1, data=folder).split()
  moved = np.mean([a != b for a, b in zip(new, text.split(), strict=True)])
  assert abs(moved - 0.1) < 0.01


def test_span_takes_words_that_stand_together():
  words = [f"{a}{b}" for a in "abcdefghij" for b in "klmno"]
  new = one(" ".join(words), operations=("span",), alpha_span=0.2).split()
  gone = [i for i, word in enumerate(words) if word not in new]
  assert gone == list(range(gone[0], gone[0] + 10))


def test_short_texts_are_left_alone():
  rows = sources(["", "Hello there!", "?!", "https://example.com/a b", "🙂 🙂 🙂 🙂"])
  for found in run(eda.make(), rows).values():
    assert found == [Candidate(problem="no word to change")]


def test_never_empty():
  for seed in range(200):
    for alpha in (0.1, 1.0):
      new = one("one bright day", seed, operations=("delete",), alpha_delete=alpha)
      assert pieces.split(new).words
      assert new == new.strip()
      assert one("one bright day", seed, operations=("span",), alpha_span=alpha).strip()


def test_both_sides_of_a_pair_change():
  engine = eda.make(operations=("delete",))
  ((_, (found,)),) = engine.make([Source("0", TEXT, OTHERS[0])], 0)
  assert found.text != TEXT
  assert found.response not in (None, OTHERS[0])


@pytest.mark.parametrize(
  ("keywords", "words"),
  [
    ({"operations": ("replace", "shuffle")}, "config.operations: shuffle; choose"),
    ({"operations": ()}, "config.operations: none"),
    ({"alpha_swap": 1.5}, "config.alpha_swap=1.5"),
    ({"synonyms": "dictionary"}, "choose glove or wordnet"),
    ({"threshold": 1.0}, "config.threshold=1.0"),
    ({"operations": ("tfidf",)}, "give its folder as `data`"),
    ({"operations": ("tfidf",), "data": "/nowhere"}, "/nowhere"),
  ],
)
def test_mistakes(keywords, words):
  with pytest.raises(UserError, match=re.escape(words)):
    eda.make(**keywords)


# TF-IDF.


def test_words_that_say_little_are_replaced_more_often(folder):
  text = OTHERS[7] + " Quantum flamingos!"
  lost = dict.fromkeys(pieces.split(text).words, 0)
  for seed in range(400):
    new = one(text, seed, operations=("tfidf",), data=folder) or text
    new = pieces.split(new).words
    for old, word in zip(pieces.split(text).words, new, strict=True):
      lost[old] += old != word
  assert lost["Quantum"] == lost["flamingos"] == 0  # in no text: they say the most
  assert lost["baker"] > 20  # in nearly all texts


def test_probabilities_are_those_of_uda():
  texts = ["a a b", "a c", "b c d", "a d"]
  known = tfidf.count(texts)
  idf = {w: np.log(4 / n) for w, n in {"a": 3, "b": 2, "c": 2, "d": 2}.items()}
  assert known.idf == pytest.approx(idf)
  share = {
    "a": 2 / 3 + 1 / 2 + 1 / 2,
    "b": 2 / 3,
    "c": 1 / 2 + 1 / 3,
    "d": 1 / 3 + 1 / 2,
  }
  score = np.array([share[w] * idf[w] for w in "abcd"])
  spare = score.max() - score
  assert known.cumulative == pytest.approx(np.cumsum(spare) / spare.sum())


def test_order_of_the_texts_has_no_say():
  texts = ["The baker is old.", *OTHERS]
  assert tfidf.count(texts).digest == tfidf.count(texts[::-1]).digest
  assert tfidf.count(texts).digest != tfidf.count([*texts, "more about it"]).digest


def test_counts_are_made_once_for_a_folder(folder, monkeypatch):
  first = tfidf.read(folder)
  monkeypatch.setattr(tfidf, "count", None)
  again = tfidf.read(folder)
  assert again._replace(cumulative=0) == first._replace(cumulative=0)
  assert (again.cumulative == first.cumulative).all()
  monkeypatch.undo()


def test_counts_of_parquet_are_those_of_json(folder, tmp_path, monkeypatch):
  from ssljax.data.records import records

  rows = [{"text": text, "label": 0, "response": None} for text in [TEXT, *OTHERS]]
  rows = [row | {"id": str(i), "source": "x"} for i, row in enumerate(rows)]
  records.write_parquet(records.from_rows(rows), tmp_path / "train.parquet")
  assert tfidf.read(str(tmp_path / "train.parquet")).digest == tfidf.read(folder).digest


# With the real synonyms.


def test_wordnet_synonyms_come_in():
  from ssljax.augment.engines.eda import wordnet

  if not (wordnet.DEBIAN / "data.noun").is_file():
    pytest.skip(reason="apt-get install -y wordnet-base")
  keywords = {"operations": ("replace",), "synonyms": "wordnet"}
  new = one("The angry doctor laughed.", alpha_replace=1.0, **keywords)
  assert re.fullmatch(r"The \S+ [\w .]+ \S+\.", new)
  assert "angry" not in new
  assert "wordnet" in eda.make(**keywords).settings["synonyms"]
