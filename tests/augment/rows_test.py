"""Shards: which views are kept, and what texts without one get instead."""

import numpy as np
import pyarrow as pa
import pytest

from ssljax.augment import run as augment_run
from ssljax.augment.engine import Candidate
from ssljax.augment.rows import augment_shard
from ssljax.augment.run import run
from ssljax.augment.settings import parse_config
from ssljax.data.batches import word_noise
from ssljax.data.records.schema import SCHEMA
from ssljax.errors import RunError
from tests.augment import folders
from tests.augment.command import make_config
from tests.augment.folders import TEXTS, hash_files, leftovers, read_views


def test_encoder_filters_drop_dissimilar_views_and_label_flips():
  table = pa.Table.from_pylist(folders.make_rows(4), SCHEMA)

  def query(sources, number):
    for i, source in enumerate(sources):
      yield i, [Candidate(f"loaf {source.id}: for how long must I bake it, {number}")]

  even = lambda pairs: np.array([int(s.id[-1]) % 2 == 0 for s, _ in pairs])
  first = lambda pairs: np.array([s.id == "row-0" for s, _ in pairs])
  settings, _ = parse_config(make_config(attempts=1))
  filters = {"not similar": even, "label flips": first}
  result = augment_shard(table, query, settings, "x:1", filters)
  reasons = sorted(result.dropped["reason"].to_pylist())
  assert reasons == ["label flips", "not similar", "not similar"]
  assert result.counts["views"] == 1


def test_a_candidate_with_a_secret_is_not_stored(monkeypatch):
  monkeypatch.setenv("MADE_UP_API_KEY", "sk-recognise-me-4711")
  table = pa.Table.from_pylist(folders.make_rows(2, response=True), SCHEMA)

  def query(sources, number):
    view = "Bake the loaf with sk-recognise-me-4711 for how many minutes?"
    yield 0, [Candidate(view, sources[0].response)]
    yield 1, [Candidate(sources[1].text, view, problem="truncated")]

  settings, _ = parse_config(make_config(attempts=1))
  result = augment_shard(table, query, settings, "x:1", {})
  assert result.counts["dropped: secret"] == 2
  assert "sk-rec" not in str(result.table.to_pylist() + result.dropped.to_pylist())


@pytest.mark.parametrize("fallback", ["self", "words", "none"])
def test_a_text_without_a_view_gets_the_fallback(data, fallback):
  counts = run(make_config("reverse_first", fallback=fallback), data)["counts"]
  texts, views = folders.read_train(data)["text"].to_pylist(), read_views(data)
  assert views[0] == [folders.reverse_words(texts[0])]
  texts, views, rest = texts[1:], views[1:], TEXTS - 1
  assert counts["texts without a view"] == rest
  assert counts["dropped: identical"] == rest
  # The engine answers the second query with an empty list: it has no more candidates.
  assert counts["asked for candidate 2"] == rest
  assert "asked for candidate 3" not in counts
  if fallback == "none":
    assert views == [[] for _ in texts]
    return
  assert counts["fallbacks"] == rest
  assert [len(row) for row in views] == [1] * rest
  assert (views == [[text] for text in texts]) == (fallback == "self")
  if fallback == "words":  # independent of the shards
    run(make_config("reverse_first", fallback=fallback, shard=5), data)
    assert read_views(data)[1:] == views


def test_a_run_without_any_view_leaves_the_folder_and_says_why(data):
  before = hash_files(data)
  with pytest.raises(RunError, match=r"none of the 40 texts .*\(identical 40\)"):
    run(make_config("repeat"), data)
  assert hash_files(data) == before
  assert leftovers(data) == set()


def test_texts_keep_their_views_when_the_server_fails(data, monkeypatch):
  run(make_config(), data)
  before = read_views(data)
  monkeypatch.setattr("ssljax.augment.query.MAX_FAILURES", 10_000)
  result = run(make_config("nearly_unreachable"), data)
  assert result["counts"]["older views kept"] == TEXTS - 1
  after = read_views(data)
  assert after[:7] + after[8:] == before[:7] + before[8:]
  assert after[7] != before[7]


def test_transient_problems_are_queried_again_by_the_next_run(data):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr("ssljax.augment.query.MAX_FAILURES", 10_000)
    counts = run(make_config("nearly_unreachable", attempts=2), data)["counts"]
  assert counts["dropped: no connection"] == TEXTS - 1
  assert counts["without an answer, asked again next time"] == TEXTS - 1
  assert "answers from the cache" not in counts
  with pytest.raises(RunError):  # only one answer is in the cache
    run(make_config("nearly_unreachable", attempts=2), data)


def test_the_vocabulary_of_the_fallback_comes_from_evenly_spaced_rows(
  data, tmp_path, monkeypatch
):
  monkeypatch.setattr(word_noise, "MAX_COUNTED_TEXTS", 6)  # of 40 rows
  counted = []
  monkeypatch.setattr(word_noise, "count_words", counted.append)
  whole = folders.make_folder(tmp_path / "other", parts=1)
  for folder in (data, whole):
    augment_run._vocabulary(sorted((folder / "train").iterdir()))
  texts = folders.read_train(data)["text"].to_pylist()
  assert counted == [texts[::6], texts[::6]]
