"""MarianMT as a translator: neural, with torch, from a folder or the hub.

The models are Helsinki-NLP's opus-mt (Tiedemann & Thottingal 2020), which the
reference used with the pivots ru, de, fr and ro.
"""

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path

from ssljax.augment.engines.backtranslation.translator import (
  Translator,
  TranslatorDied,
)
from ssljax.errors import UserError

OWNER = "Helsinki-NLP"
# There is no model from Romanian alone into English, only from the Romance languages.
NAMES = {("ro", "en"): "opus-mt-roa-en"}
NEEDED = ("config.json", "source.spm", "target.spm", "vocab.json")
LONGEST = 512  # tokens, of a sentence and of its translation; as the reference


def make(
  language: str,
  pivots: Sequence[str],
  models: str = "",
  device: str = "",
  batch: int = 32,
) -> Translator:
  """The translator between a language and each of the pivots.

  Args:
    models: a folder with one folder a model (`opus-mt-en-de`); "" takes them from the
      hub, by way of its cache.
    device: of torch; "" takes a GPU where there is one.
    batch: sentences translated together.

  Raises:
    UserError: no torch; a folder that is missing. Later, by the first translation: a
      model that cannot be loaded.
  """
  try:
    import torch
    from transformers import MarianMTModel, MarianTokenizer
  except ImportError:
    raise UserError(
      "config.translator=marian needs torch: `pip install -e '.[marian]'`, or"
      " --config.translator=apertium"
    ) from None
  names = {}
  for pivot in pivots:
    for pair in ((language, pivot), (pivot, language)):
      names[pair] = _name(pair, models)
  device = device or ("cuda" if torch.cuda.is_available() else "cpu")

  @functools.cache
  def load(name: str):
    try:
      # The model first: without a network it says so, and the tokenizer does not.
      model = MarianMTModel.from_pretrained(name, dtype=torch.float32)
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to install sacremoses
        tokenizer = MarianTokenizer.from_pretrained(name)
    except (OSError, ValueError, TypeError) as error:
      raise UserError(
        f"the model {name} cannot be loaded ({error}); put it into a folder and name"
        " that with --config.models=FOLDER, or take --config.translator=apertium"
      ) from None
    return tokenizer, model.to(device).eval()

  def translate(texts: list[str], source: str, target: str) -> list[str]:
    tokenizer, model = load(names[source, target])
    # Sentences of like length together: less padding.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = [""] * len(texts)
    for first in range(0, len(order), batch):
      some = order[first : first + batch]
      inputs = tokenizer(
        [texts[i] for i in some],
        return_tensors="pt",
        padding=True,
        truncation=True,
        max_length=LONGEST,
      ).to(device)
      try:
        with torch.inference_mode():
          ids = model.generate(**inputs, max_length=LONGEST)
      except torch.OutOfMemoryError as error:
        if len(some) == 1:
          raise TranslatorDied(f"marian {target}: out of memory") from error
        raise UserError(
          f"the device has no memory for {len(some)} sentences at once; try a smaller "
          f"--config.batch than {batch}: what was made is kept"
        ) from error
      found = tokenizer.batch_decode(ids, skip_special_tokens=True)
      for i, text in zip(some, found, strict=True):
        out[i] = text
    return out

  models = {pair: _short(name) for pair, name in names.items()}
  return Translator("marian", models, translate)


def _name(pair: tuple[str, str], models: str) -> str:
  name = NAMES.get(pair, "opus-mt-{}-{}".format(*pair))
  if not models:
    return f"{OWNER}/{name}"
  folder = Path(models).expanduser() / name
  for file in NEEDED:
    if not (folder / file).is_file():
      raise UserError(f"config.models={models}: no {name}/{file} in it")
  return str(folder)


def _short(name: str) -> str:
  """The same from the hub and from a folder."""
  return name.rsplit("/", 1)[-1]
