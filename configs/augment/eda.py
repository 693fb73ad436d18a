"""Easy data augmentation: replaces, inserts, swaps and deletes words.

  python -m ssljax.augment --config=configs/augment/eda.py --data=FOLDER

Runs on any machine, without a model. The first run downloads 76 MB of word vectors;
`--config.synonyms=wordnet` uses WordNet instead. See docs/augmentation.md.
"""

from ssljax.configs.augment import base


def get_config():
  config = base.get_config("eda")
  # There are also "span" (deletes consecutive words) and "tfidf" (UDA's replacement).
  config.operations = ("replace", "insert", "swap", "delete")
  config.alpha_replace = 0.1  # share of the words that an operation changes
  config.alpha_insert = 0.1
  config.alpha_swap = 0.1
  config.alpha_delete = 0.1
  config.alpha_span = 0.1
  config.alpha_tfidf = 0.1
  config.synonyms = "glove"  # or "wordnet"
  config.threshold = 0.75  # minimum cosine of GloVe neighbours
  config.wordnet = ""  # folder of WordNet; "": /usr/share/wordnet or NLTK's data
  config.most_alike = 1.0  # a view may differ from a long text in a single word
  return config
