"""What many tests need: the methods as test cases, and tiny encoders and datasets."""

import itertools
import json

import jax
import numpy as np

from ssljax import methods, wrappers
from ssljax.method import Method
from ssljax.models import Encoder, save_params
from ssljax.testing.tiny import CONFIG, TinyRun

SETTINGS = {
  "threshold": 0.4,  # of 3 classes; an untrained model is rarely more confident
  "cut_off": 0.0,  # MarginMatch: its margins are small as well
  "gamma": 1.05,  # Dash: the loss of a tiny model decreases slowly
  "batches": 1,  # CoMatch smooths once its queue is full, here after some steps
  "momentum": 0.5,  # averages that hardly move would hide a wrong value
}
WRAPPER_SETTINGS = {  # with which wrappers have an effect in some steps
  "threshold": 0.3,  # ABC's head is initially undecided between 3 classes
  "warmup": 0.0,
  "momentum": 0.5,
  "every": 2,
}
KINDS = ("variant", "mix", "view")  # keywords whose values are different algorithms


def cases() -> list[str]:
  """All methods with all variants of their `make`, and all wrappers.

  "method", "method:variant", "fixmatch/wrapper".
  """
  cases = []
  for name in methods.names():
    keywords = methods.describe(name)
    variants = [v for kind in KINDS if kind in keywords for v in keywords[kind].choices]
    cases += [f"{name}:{variant}" for variant in variants] or [name]
  return cases + [f"fixmatch/{name}" for name in wrappers.names()]


def method(case: str, **keywords) -> Method:
  """The method of a case without its wrapper; ignores keywords that it lacks."""
  name, _, variant = case.partition("/")[0].partition(":")
  accepted = methods.defaults(name)
  if variant:
    keywords |= dict.fromkeys(KINDS, variant)
  keywords = {key: value for key, value in keywords.items() if key in accepted}
  return methods.make({"name": name, **keywords})


def tiny_run(case: str, **keywords) -> TinyRun:
  """A run of the method of a case, with settings under which it does something."""
  wrapper = case.partition("/")[2]
  accepted = wrappers.defaults(wrapper)
  settings = {k: v for k, v in WRAPPER_SETTINGS.items() if k in accepted}
  wrapped = wrappers.wrap(method(case, **SETTINGS), {"name": wrapper, **settings})
  return TinyRun(wrapped, **keywords)


BERT = Encoder(CONFIG, dropout=0.0)
WORDS = ["kind", "calm", "help", "bread", "bake", "harm", "hurt", "steal", "a", "the"]


def folder_of_encoder(path, seed: int = 0) -> None:
  """Writes a Hugging Face folder of a tiny random BERT with a word-piece vocabulary."""
  ids = np.zeros((1, 4), np.int32)
  params = Encoder(CONFIG).init(jax.random.key(seed), ids, ids + 1)["params"]
  save_params(path, CONFIG, params)
  vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
  (path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
  (path / "tokenizer_config.json").write_text(
    json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
  )


def write_rows(path, rows: int, seed: int, lengths=(6, 7)) -> None:
  """Writes JSONL rows of texts whose words give the label away.

  Args:
    lengths: the number of words is drawn from this range. Texts of one length give
      batches of one shape, so that a step is compiled only once.
  """
  rng = np.random.default_rng(seed)
  good, bad, common = WORDS[:5], WORDS[5:8], WORDS[8:]
  label = itertools.cycle([0, 1])
  with open(path, "w") as file:
    for i in range(rows):
      y = next(label)
      words = rng.choice([*(bad if y else good), *common], rng.integers(*lengths))
      row = {"id": f"{path.stem}-{i}", "text": " ".join(words), "label": y}
      file.write(json.dumps(row) + "\n")
