"""Texts without a good view: what falls back, what is kept, what stops a run."""

import pytest

from ssljax.augment import run as augment
from ssljax.augment.run import run
from ssljax.data.batches import word_noise
from ssljax.errors import RunError
from tests.augment import places
from tests.augment.folders import TEXTS, backwards, beside, config, state


@pytest.mark.parametrize("fallback", ["self", "words", "none"])
def test_a_text_without_a_view_falls_back(data, fallback):
  found = run(config("once", fallback=fallback), data)
  texts = places.read(data)["text"].to_pylist()
  views = places.views(data, "mine")
  assert views[0] == [backwards(texts[0])]
  texts, views, rest = texts[1:], views[1:], TEXTS - 1
  assert found["counts"]["texts without a view"] == rest
  assert found["counts"]["dropped: identical"] == rest  # it has no more to give
  assert found["counts"]["asked for candidate 2"] == rest  # and says so, once
  assert "asked for candidate 3" not in found["counts"]
  if fallback == "none":
    assert views == [[] for _ in texts]
    return
  assert found["counts"]["fallbacks"] == rest
  assert [len(some) for some in views] == [1] * rest
  assert (views == [[text] for text in texts]) == (fallback == "self")
  if fallback == "words":  # the same for other shards
    run(config("once", fallback=fallback, shard=5), data)
    assert places.views(data, "mine")[1:] == views


def test_a_run_that_makes_nothing_leaves_the_folder_and_says_why(data):
  old = state(data)
  with pytest.raises(RunError, match=r"none of the 40 texts .*\(identical 40\)"):
    run(config("never"), data)
  assert state(data) == old
  assert beside(data) == set()


def test_a_server_that_fails_takes_no_view_away(data, monkeypatch):
  run(config(), data)
  made = places.views(data, "mine")
  monkeypatch.setattr("ssljax.augment.query.MAX_FAILURES", 10_000)
  found = run(config("half_down"), data)
  assert found["counts"]["older views kept"] == TEXTS - 1
  after = places.views(data, "mine")
  assert after[:7] + after[8:] == made[:7] + made[8:]
  assert after[7] != made[7]


def test_the_words_of_a_fallback_are_counted_in_evenly_spaced_rows(
  data, tmp_path, monkeypatch
):
  monkeypatch.setattr(word_noise, "COUNTED", 6)  # of 40 rows in two parts
  seen = []
  monkeypatch.setattr(word_noise, "vocabulary", lambda texts: seen.append(list(texts)))
  parts = [*places.folder(tmp_path / "other", TEXTS, parts=1).glob("train/*.parquet")]
  for some in (sorted((data / "train").iterdir()), parts):
    augment._vocabulary(some)
  assert seen[0] == seen[1] == places.read(data)["text"].to_pylist()[::6]


def test_problems_that_may_pass_are_asked_again_next_time(data):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr("ssljax.augment.query.MAX_FAILURES", 10_000)
    found = run(config("half_down", attempts=2), data)
  assert found["counts"]["dropped: no connection"] == TEXTS - 1
  assert found["counts"]["without an answer, asked again next time"] == TEXTS - 1
  assert "answers from the cache" not in found["counts"]
  with pytest.raises(RunError):  # only the one answer was stored
    run(config("half_down", attempts=2), data)
