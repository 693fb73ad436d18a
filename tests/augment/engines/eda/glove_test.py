"""GloVe neighbours: what the real vectors say, and a table that survives damage."""

import numpy as np
import pytest

from ssljax.assets import fetch
from ssljax.augment.engines.eda import glove
from ssljax.augment.engines.eda.stop_words import STOP_WORDS

pytestmark = pytest.mark.slow  # 76 MB to fetch, and a table of some seconds, once


@pytest.fixture(scope="module")
def near():
  return glove.neighbours(0.75)


def test_near_words_are_near(near):
  assert {"dumb", "silly"} <= set(near["stupid"])
  assert {"furious", "outraged"} <= set(near["angry"])
  assert near["poem"][0] == "verse"  # the nearest is the first
  assert len(near) > 20_000


def test_no_word_is_near_itself_and_none_is_a_stop_word(near):
  assert all(word not in words for word, words in near.items())
  assert not STOP_WORDS & set(near)
  assert not STOP_WORDS & {word for words in near.values() for word in words}
  assert max(map(len, near.values())) == glove.MOST


def test_a_higher_threshold_leaves_the_nearer_ones(near):
  strict = glove.neighbours(0.85)
  assert 0 < len(strict) < len(near)
  for word, words in list(strict.items())[::97]:
    assert near[word][: len(words)] == words


def made_up(monkeypatch, tmp_path):
  """Vectors on a circle, a degree apart, instead of the real ones; an empty cache."""
  angle = np.radians(np.arange(40))
  vectors = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
  words = [f"w{i}" for i in range(40)]
  reads = []

  def read(folder):
    reads.append(folder)
    return words, vectors

  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path))
  monkeypatch.setattr(fetch, "fetch", lambda name: tmp_path / name)
  monkeypatch.setattr(glove, "_read", read)
  monkeypatch.setattr(glove, "BLOCK", 7)  # not a divisor of 40
  return reads


def test_neighbours_are_those_of_plain_arithmetic(monkeypatch, tmp_path):
  made_up(monkeypatch, tmp_path)
  found = glove.neighbours(np.cos(np.radians(2.5)))
  assert set(found["w20"]) == {"w18", "w19", "w21", "w22"}
  assert set(found["w20"][:2]) == {"w19", "w21"}
  assert set(found["w0"]) == {"w1", "w2"}
  assert set(found["w39"]) == {"w37", "w38"}
  assert len(glove.neighbours(0.9)["w20"]) == glove.MOST


def test_the_table_is_made_once_and_a_damaged_one_again(monkeypatch, tmp_path):
  reads = made_up(monkeypatch, tmp_path)
  first = glove.neighbours(0.99)
  assert glove.neighbours(0.99) == first
  assert len(reads) == 1
  glove.neighbours(0.95)
  assert len(reads) == 2  # another threshold is another table
  for file in (tmp_path / "glove").iterdir():
    file.write_bytes(file.read_bytes()[:100])
  assert glove.neighbours(0.99) == first
  assert len(reads) == 3
