"""Translates with MarianMT, whose neural models come from a folder or the Hub.

The models are Helsinki-NLP's opus-mt (Tiedemann & Thottingal 2020). The reference
implementation uses the pivots ru, de, fr and ro.
"""

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path

from ssljax.augment.engines.backtranslation.translator import Translator
from ssljax.data.records.files import chunked
from ssljax.errors import UserError

# For Romanian to English, there is only the model for all Romance languages.
NAMES = {("ro", "en"): "opus-mt-roa-en"}
MAX_TOKENS = 512  # of a sentence or its translation, as in the reference implementation


def make_translator(
  language: str,
  pivots: Sequence[str],
  models: str = "",
  device: str = "",
  batch: int = 32,
) -> Translator:
  """Creates a translator between a language and each of the pivots.

  Args:
    models: folder with a subfolder for each model (`opus-mt-en-de`); "" loads the
      models from the Hub or its cache.
    device: the torch device; "" uses a GPU if there is one.
    batch: number of sentences that are translated together.

  Raises:
    UserError: torch or a model's folder is missing, or (during a translation) a model
      cannot be loaded or the memory is too small.
  """
  try:
    import torch
    from transformers import MarianMTModel, MarianTokenizer
  except ImportError:
    raise UserError(
      "config.translator=marian needs torch: `pip install -e '.[marian]'`, or use"
      " --config.translator=apertium"
    ) from None
  # Code in the folder of a model never runs.
  options = {"trust_remote_code": False}
  root = Path(models).expanduser() if models else Path("Helsinki-NLP")
  names = {}  # without `root`, so that cache keys are the same for the Hub and a folder
  for pair in (p for pivot in pivots for p in ((language, pivot), (pivot, language))):
    names[pair] = NAMES.get(pair, "opus-mt-{}-{}".format(*pair))
    if models and not (root / names[pair]).is_dir():
      raise UserError(f"config.models={models}: no folder {names[pair]} in this folder")
  device = device or ("cuda" if torch.cuda.is_available() else "cpu")

  @functools.cache
  def load(name: str):
    path = str(root / name)
    try:
      # The model is loaded first: without a network, its error is the clearer one.
      model = MarianMTModel.from_pretrained(path, dtype=torch.float32, **options)
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hides advice to install sacremoses
        tokenizer = MarianTokenizer.from_pretrained(path, **options)
    except (OSError, ValueError, TypeError) as error:
      raise UserError(
        f"the model {path} cannot be loaded ({error}); download it into a folder and"
        " pass --config.models=FOLDER, or use --config.translator=apertium"
      ) from None
    return tokenizer, model.to(device).eval()

  def translate(texts: list[str], source: str, target: str) -> list[str]:
    tokenizer, model = load(names[source, target])
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # less padding
    translations = {}
    for rows in chunked(order, batch):
      inputs = tokenizer(
        [texts[i] for i in rows],
        return_tensors="pt",
        padding=True,
        truncation=True,
        max_length=MAX_TOKENS,
      ).to(device)
      try:
        with torch.inference_mode():
          ids = model.generate(**inputs, max_length=MAX_TOKENS)
      except torch.OutOfMemoryError as error:
        raise UserError(
          f"out of memory with {len(rows)} sentences at once; lower --config.batch (now"
          f" {batch}) or free memory of {device}, and run the same command again:"
          " finished views are kept"
        ) from error
      decoded = tokenizer.batch_decode(ids, skip_special_tokens=True)
      translations.update(zip(rows, decoded, strict=True))
    return [translations[i] for i in range(len(texts))]

  return Translator(names, translate)
