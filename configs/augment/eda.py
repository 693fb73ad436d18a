"""Easy data augmentation: synonyms, insertions, swaps, deletions; no model needed.

  python -m ssljax.augment --config=configs/augment/eda.py --data=FOLDER

Any machine; its speed: docs/augmentation.md. The first run fetches 76 MB of word
vectors. WordNet's synonyms instead: `--config.synonyms=wordnet`.
"""

from ssljax.configs.augment import base


def get_config():
  config = base.get_config("eda")
  # Also "span" (words that stand together go) and "tfidf" (UDA's).
  config.operations = ("replace", "insert", "swap", "delete")
  config.alpha_replace = 0.1  # share of the words that change
  config.alpha_insert = 0.1
  config.alpha_swap = 0.1
  config.alpha_delete = 0.1
  config.alpha_span = 0.1
  config.alpha_tfidf = 0.1
  config.synonyms = "glove"  # or "wordnet"
  config.threshold = 0.75  # of GloVe neighbours: least cosine
  config.wordnet = ""  # its folder; "": /usr/share/wordnet or NLTK's data
  config.most_alike = 1.0  # one word of many is a view here
  return config
