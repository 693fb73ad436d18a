"""GloVe neighbours: the real vectors, the computation and the cached table."""

import numpy as np
import pytest

from ssljax.assets import fetch
from ssljax.augment.engines.eda import glove
from ssljax.augment.engines.eda.stop_words import STOP_WORDS

pytestmark = pytest.mark.slow  # downloads 76 MB and computes the table once


@pytest.fixture(scope="module")
def neighbours():
  return glove.load_neighbours(0.75)


def test_neighbours_are_similar_words(neighbours):
  assert {"dumb", "silly"} <= set(neighbours["stupid"])
  assert {"furious", "outraged"} <= set(neighbours["angry"])
  assert neighbours["poem"][0] == "verse"  # the nearest comes first
  assert len(neighbours) > 20_000


def test_no_word_is_its_own_neighbour_or_a_stop_word(neighbours):
  assert all(word not in words for word, words in neighbours.items())
  assert not STOP_WORDS & set(neighbours)
  assert not STOP_WORDS & {word for words in neighbours.values() for word in words}
  assert max(map(len, neighbours.values())) == glove.MAX_NEIGHBOURS


def test_a_higher_threshold_keeps_the_nearest(neighbours):
  strict = glove.load_neighbours(0.85)
  assert 0 < len(strict) < len(neighbours)
  for word, words in list(strict.items())[::97]:
    assert neighbours[word][: len(words)] == words


@pytest.fixture
def reads(monkeypatch, tmp_path):
  """Calls of the reader, which returns 40 vectors on a circle, a degree apart."""
  angle = np.radians(np.arange(40))
  vectors = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
  words = [f"w{i}" for i in range(40)]
  reads = []

  def read(folder):
    reads.append(folder)
    return words, vectors

  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path))
  monkeypatch.setattr(fetch, "fetch", lambda name: tmp_path / name)
  monkeypatch.setattr(glove, "_read_vectors", read)
  monkeypatch.setattr(glove, "BLOCK", 7)  # not a divisor of 40
  return reads


def test_neighbours_of_vectors_on_a_circle(reads):
  neighbours = glove.load_neighbours(np.cos(np.radians(2.5)))
  assert set(neighbours["w20"]) == {"w18", "w19", "w21", "w22"}
  assert set(neighbours["w20"][:2]) == {"w19", "w21"}
  assert set(neighbours["w0"]) == {"w1", "w2"}
  assert set(neighbours["w39"]) == {"w37", "w38"}
  assert len(glove.load_neighbours(0.9)["w20"]) == glove.MAX_NEIGHBOURS


def test_the_table_is_cached_and_replaced_if_damaged(reads, tmp_path):
  first = glove.load_neighbours(0.99)
  assert glove.load_neighbours(0.99) == first
  assert len(reads) == 1
  glove.load_neighbours(0.95)
  assert len(reads) == 2  # another threshold is another table
  for file in (tmp_path / "glove").iterdir():
    file.write_bytes(file.read_bytes()[:100])
  assert glove.load_neighbours(0.99) == first
  assert len(reads) == 3
  for file in (tmp_path / "glove").iterdir():
    file.write_text(file.read_text().replace("w3", "w4"))
  assert glove.load_neighbours(0.99) == first
  assert len(reads) == 4
