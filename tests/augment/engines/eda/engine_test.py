"""EDA: reproducible views, rates, kept punctuation, synonyms and TF-IDF statistics."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from ssljax.augment import engines, word_edits
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.engines.eda import glove, tfidf
from ssljax.augment.engines.eda.engine import OPERATIONS
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


@pytest.fixture(autouse=True)
def near(monkeypatch):
  monkeypatch.setattr(glove, "load_neighbours", lambda threshold: NEAR)


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  data = tmp_path / "data"
  data.mkdir()
  with open(data / "train.jsonl", "w") as file:
    for text in [TEXT, *OTHERS]:
      file.write(json.dumps({"text": text, "label": 0}) + "\n")
  return str(data)


def make_engine(**keywords):
  return engines.make("eda", keywords)


def make_sources(texts):
  return [Source(str(i), text) for i, text in enumerate(texts)]


def collect(engine, sources, numbers=(0,)):
  """The candidates of each source, for all the numbers."""
  rounds = [dict(engine.make(sources, number)) for number in numbers]
  return {i: [c for views in rounds for c in views[i]] for i in range(len(sources))}


def augment(text=TEXT, seed=0, **keywords) -> str:
  engine = make_engine(seed=seed, **keywords)
  ((_, (candidate,)),) = engine.make([Source("0", text)], 0)
  return candidate.text


def test_views_depend_on_text_seed_and_number_only(folder):
  sources = make_sources([TEXT, *OTHERS])
  keywords = {"operations": OPERATIONS, "data": folder}
  engine = make_engine(seed=4, **keywords)
  together = collect(engine, sources, range(3))
  reverse = collect(engine, sources[::-1], range(3))
  alone = [collect(engine, [source], range(3))[0] for source in sources]
  assert [together[i] for i in range(41)] == alone
  assert [reverse[40 - i] for i in range(41)] == alone
  assert collect(make_engine(seed=5, **keywords), sources, range(3)) != together
  assert collect(engine, sources, range(3, 6)) != together


def test_views_cycle_through_the_operations():
  (views,) = collect(make_engine(), make_sources([TEXT]), range(4)).values()
  before = len(word_edits.split(TEXT).words)
  sizes = sorted(len(word_edits.split(view.text).words) - before for view in views)
  assert sizes[0] < 0  # deletion
  assert sizes[1] == sizes[2] == 0  # swap, replacement
  assert sizes[3] > 0  # insertion


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_addresses_punctuation_and_line_breaks(name, folder):
  kept = r"https://example\.com/bread-2|bob@example\.org|\n|\?|\(|\)|- "
  for seed in range(60):
    new = augment(seed=seed, operations=(name,), data=folder, **{f"alpha_{name}": 0.2})
    assert new != TEXT
    assert re.findall(kept, new) == re.findall(kept, TEXT)
    assert not re.search(r"  | [,?!)]|\( |^ ", new)


@pytest.mark.parametrize("name", ["replace", "insert"])
def test_only_synonyms_are_added(name):
  old = set(word_edits.split(TEXT).words)
  for seed in range(60):
    new = set(word_edits.split(augment(seed=seed, operations=(name,))).words)
    added = new - old
    assert added
    assert added <= {"roast", "cook", "toast", "big", "huge", "tiny"}
    assert len(old - new) == (len(added) if name == "replace" else 0)


def test_stop_words_are_not_replaced(monkeypatch):
  monkeypatch.setattr(
    glove,
    "load_neighbours",
    lambda threshold: {"not": ("xx",), "don't": ("xx",), "of": ("xx",)},
  )
  engine = make_engine(operations=("replace",), alpha_replace=1.0)
  (views,) = collect(
    engine, make_sources(["Don't talk of it, and do not laugh!"])
  ).values()
  assert views == [Candidate(problem="no word to change")]


def test_capitals_are_kept_and_all_occurrences_replaced():
  text = "Story by story: the STORY of a story."
  assert augment(text, operations=("replace",)) == "Tale by tale: the TALE of a tale."


def test_rates(folder):
  text = " ".join(f"{'abcdefghij'[i % 10]}{'xyz'[i % 3]}w" for i in range(20_000))
  n = len(augment(text, operations=("delete",), alpha_delete=0.2).split())
  assert abs(n / 20_000 - 0.8) < 0.01
  n = len(augment(text, operations=("span",), alpha_span=0.3).split())
  assert n == 14_000
  new = augment(text, operations=("swap",), alpha_swap=0.1).split()
  moved = np.mean([a != b for a, b in zip(new, text.split(), strict=True)])
  assert 0.1 < moved < 0.2  # 2000 pairs, some of equal words
  new = augment(text, operations=("tfidf",), alpha_tfidf=0.1, data=folder).split()
  moved = np.mean([a != b for a, b in zip(new, text.split(), strict=True)])
  assert abs(moved - 0.1) < 0.01


def test_span_deletes_consecutive_words():
  labels = [f"{a}{b}" for a in "abcdefghij" for b in "klmno"]
  new = augment(" ".join(labels), operations=("span",), alpha_span=0.2).split()
  deleted = [i for i, word in enumerate(labels) if word not in new]
  assert deleted == list(range(deleted[0], deleted[0] + 10))


def test_texts_without_enough_words_are_not_changed():
  sources = make_sources(
    ["", "Hello there!", "?!", "https://example.com/a b", "🙂 🙂 🙂 🙂"]
  )
  for views in collect(make_engine(), sources).values():
    assert views == [Candidate(problem="no word to change")]


def test_deletion_never_empties_a_text():
  for seed in range(200):
    for alpha in (0.1, 1.0):
      new = augment("one bright day", seed, operations=("delete",), alpha_delete=alpha)
      assert word_edits.split(new).words
      assert new == new.strip()
      assert augment(
        "one bright day", seed, operations=("span",), alpha_span=alpha
      ).strip()


@pytest.mark.parametrize("name", ["swap", "delete", "span", "tfidf"])
def test_combining_marks_belong_to_their_words(name, folder):
  hindi = "मैं घर पर रोटी कैसे बनाऊँ और किससे खाऊँ"
  path = Path(folder, "train.jsonl")
  rows = [{"text": f"{hindi} {i}", "label": 0} for i in range(20)]
  path.write_text("\n".join(map(json.dumps, rows)))
  words = set(hindi.split())
  for seed in range(60):
    keywords = {"data": folder, f"alpha_{name}": 0.3}
    assert set(augment(hindi, seed, operations=(name,), **keywords).split()) <= words
  assert set(tfidf.load_statistics(folder).words) == words


def test_both_sides_of_a_pair_change():
  engine = make_engine(operations=("delete",))
  ((_, (view,)),) = engine.make([Source("0", TEXT, OTHERS[0])], 0)
  assert view.text != TEXT
  assert view.response not in (None, OTHERS[0])


@pytest.mark.parametrize(
  ("keywords", "message"),
  [
    ({"operations": ("replace", "shuffle")}, "config.operations: shuffle; choose"),
    ({"operations": ()}, "config.operations: none"),
    ({"alpha_swap": 1.5}, "config.alpha_swap=1.5"),
    ({"synonyms": "dictionary"}, "it must be one of glove, wordnet"),
    ({"threshold": 1.0}, "config.threshold=1.0"),
    ({"operations": ("tfidf",)}, "pass its folder as `data`"),
    ({"operations": ("tfidf",), "data": "/nowhere"}, "/nowhere"),
  ],
)
def test_invalid_settings(keywords, message):
  with pytest.raises(UserError, match=re.escape(message)):
    make_engine(**keywords)


# TF-IDF.


def test_words_with_a_low_tfidf_are_replaced_more_often(folder):
  text = OTHERS[7] + " Quantum flamingos!"
  replaced = dict.fromkeys(word_edits.split(text).words, 0)
  for seed in range(400):
    new = augment(text, seed, operations=("tfidf",), data=folder) or text
    new = word_edits.split(new).words
    for old, word in zip(word_edits.split(text).words, new, strict=True):
      replaced[old] += old != word
  assert replaced["Quantum"] == replaced["flamingos"] == 0  # in no other text
  assert replaced["baker"] > 20  # in nearly all texts


def test_replacement_probabilities_match_uda():
  texts = ["a a b", "a c", "b c d", "a d"]
  statistics = tfidf.compute_statistics(texts)
  idf = {w: np.log(4 / n) for w, n in {"a": 3, "b": 2, "c": 2, "d": 2}.items()}
  assert statistics.idf == pytest.approx(idf)
  frequency = {
    "a": 2 / 3 + 1 / 2 + 1 / 2,
    "b": 2 / 3,
    "c": 1 / 2 + 1 / 3,
    "d": 1 / 3 + 1 / 2,
  }
  scores = np.array([frequency[w] * idf[w] for w in "abcd"])
  weights = scores.max() - scores
  assert statistics.cumulative == pytest.approx(np.cumsum(weights) / weights.sum())


def test_statistics_do_not_depend_on_the_order_of_texts():
  texts = ["The baker is old.", *OTHERS]
  digest = lambda texts: tfidf.compute_statistics(texts).digest
  assert digest(texts) == digest(texts[::-1])
  assert digest(texts) != digest([*texts, "more about it"])


def test_statistics_are_cached(folder, monkeypatch):
  first = tfidf.load_statistics(folder)
  monkeypatch.setattr(tfidf, "compute_statistics", None)
  again = tfidf.load_statistics(folder)
  assert again._replace(cumulative=0) == first._replace(cumulative=0)
  assert (again.cumulative == first.cumulative).all()
  monkeypatch.undo()


def test_a_changed_file_of_the_same_size_and_time_is_counted_again(folder):
  path = Path(folder) / "train.jsonl"
  first, status = tfidf.load_statistics(folder), path.stat()
  path.write_text(path.read_text().replace("baker", "maker"))
  os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
  assert path.stat().st_size == status.st_size
  assert tfidf.load_statistics(folder).digest != first.digest


def test_statistics_of_parquet_and_json_are_equal(folder, tmp_path):
  from ssljax.data.records import records

  rows = [{"text": text, "label": 0, "response": None} for text in [TEXT, *OTHERS]]
  rows = [row | {"id": str(i), "source": "x"} for i, row in enumerate(rows)]
  path = tmp_path / "train.parquet"
  records.write_parquet(records.from_rows(rows), path)
  from_parquet = tfidf.load_statistics(str(path))
  assert from_parquet.digest == tfidf.load_statistics(folder).digest
