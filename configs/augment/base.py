"""Every key that all engines share, with its default; each file here starts from it."""

import ml_collections


def get_config(engine: str, kind: str = ""):
  """The config of one engine (a module of ssljax/augment/engines)."""
  config = ml_collections.ConfigDict()
  config.engine = engine
  config.kind = kind or engine  # name of the views, for --config.strong
  config.views = 1  # wanted of each text
  config.splits = ("train",)
  config.seed = 0
  config.attempts = 3  # before a text falls back
  config.fallback = "self"  # self | words | none
  config.replace = True  # views of this kind that are there already; False adds
  config.limit = 0  # texts at most, the first ones; 0: all (to try an engine out)

  # Filters: what a view must be. 0 switches one off.
  config.least_ratio = 0.3  # length of the view / length of the text, in characters
  config.most_ratio = 3.0
  config.most_alike = 0.98  # of characters: nearly the text itself
  config.least_similarity = 0.0  # cosine of mean-pooled embeddings
  config.similarity_encoder = "sentence-transformers/all-MiniLM-L6-v2"
  config.language = ""  # "same" or "en": drop a view in another language
  config.keep_questions = False  # drop a view that no longer asks: mostly an answer
  config.label_check = ""  # workdir of a run: drop a view whose harm score flips

  # The run.
  config.shard = 4096  # rows read, made and written together
  config.workers = 0  # processes of a local engine; 0: one a core
  return config
