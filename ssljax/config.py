"""The keys of a training config: type, range, default and meaning; and their checks."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from ssljax import options
from ssljax.errors import UserError
from ssljax.options import Amount, Count, Natural, Range, Share

Views = tuple[str, ...]
Imbalance = Annotated[float, Range(-math.inf)]  # 0, or a ratio of at least 1 either way


class Keys:
  """Every key with its default. `method` and `wrapper` have further keywords.

  The defaults are the settings of arXiv 2512.21107, as far as its authors published
  them.
  """

  name: Annotated[str, "name of the run's folder, runs/NAME-TIME"] = ""

  # Data
  data: Annotated[
    str, "dataset folder, files separated by commas, or a named source such as pyrit"
  ] = ""
  encoder: Annotated[str, "pretrained encoder: a folder or a name on the Hub"] = (
    "microsoft/deberta-v3-base"
  )
  labels: Annotated[Natural, "labelled texts; 0: all labels"] = 200
  balance: Annotated[
    Literal["balanced", "stratified"],
    "labelled texts per class: equally many, or in proportion to the data",
  ] = "balanced"
  labelled_imbalance: Annotated[
    Imbalance,
    "largest class : smallest class of the labelled texts, in place of balance; "
    "negative: the last class is the largest; 0: off",
  ] = 0.0
  unlabelled_imbalance: Annotated[
    Imbalance, "the same for unlabelled texts; the remaining ones are left out"
  ] = 0.0
  include_labelled: Annotated[bool, "use labelled texts as unlabelled ones as well"] = (
    False
  )
  weak: Annotated[Views, "kinds of the weak view; one candidate is drawn per visit"] = (
    "self",
  )
  medium: Annotated[Views, "kinds of the medium view (sequencematch)"] = ("words",)
  strong: Annotated[Views, "kinds of the strong view"] = ("words",)
  missing_view: Annotated[
    Literal["error", "words", "self", "drop"], "what to do with a row without the view"
  ] = "error"
  on_overlap: Annotated[
    Literal["error", "drop"], "training texts that occur in validation or test"
  ] = "error"
  max_length: Annotated[
    int, Range(8), "tokens per text; longer texts are truncated"
  ] = 512
  tokenizer_backend: Annotated[
    Literal["hf", "tftext"], "tokenizers or tensorflow-text; the ids are the same"
  ] = "hf"

  # Model
  head: Annotated[
    Literal["mlp", "hf"], "hf: the head of transformers' ForSequenceClassification"
  ] = "mlp"
  dropout: Annotated[Share, "dropout rate of encoder and head"] = 0.1
  dtype: Annotated[Literal["float32", "bfloat16"], "compute dtype"] = "float32"
  remat: Annotated[bool, "recompute layers in the backward pass to save memory"] = False

  # Run
  seed: Annotated[int, Range(0, 2**31 - 1), "seed of all random draws"] = 0
  batch: Annotated[Count, "labelled texts per step"] = 16
  unlabelled_ratio: Annotated[Count, "unlabelled texts per labelled text"] = 3
  steps: Annotated[Natural, "training steps; 0: from passes"] = 0
  passes: Annotated[Count, "passes over the labelled texts, if steps is 0"] = 100
  accumulation: Annotated[Count, "micro-batches per step"] = 1
  weak_dropout: Annotated[bool, "dropout in passes without gradient"] = True
  layout: Annotated[
    Literal["packed", "padded"], "several texts per row, or one text per row"
  ] = "packed"

  # Optimizer
  learning_rate: Annotated[Amount, "peak learning rate"] = 5e-5
  layer_decay: Annotated[
    Share, "learning-rate factor from each layer to the one below"
  ] = 0.75
  weight_decay: Annotated[Amount, "AdamW weight decay"] = 5e-4
  warmup: Annotated[
    int, Range(-1), "warm-up steps; -1: one pass over the labelled texts"
  ] = -1
  clip: Annotated[Amount, "global norm to clip gradients to; 0: off"] = 0.0
  ema: Annotated[
    Share, "decay of the averaged parameters, which are then evaluated; 0: off"
  ] = 0.0

  # Evaluation and checkpoints
  eval_every: Annotated[
    Natural, "steps between validations; 0: one pass over the labelled texts"
  ] = 0
  select: Annotated[
    Literal["f1", "macro_f1", "accuracy", "precision", "recall", "auroc", "auprc"],
    "validation metric that chooses the checkpoint",
  ] = "f1"
  patience: Annotated[
    Natural, "stop after so many validations without improvement; 0: never"
  ] = 0
  checkpoint_every: Annotated[Natural, "steps; 0: about a minute of work"] = 0
  log_every: Annotated[Count, "steps between lines of metrics.jsonl"] = 10

  # Devices
  parallel: Annotated[Literal["jit", "pmap"], "how a step runs on several devices"] = (
    "jit"
  )
  fsdp: Annotated[Count, "devices that share one copy of the parameters"] = 1
  prng: Annotated[Literal["rbg", "threefry2x32"], "random number generator of JAX"] = (
    "rbg"
  )
  distributed: Annotated[bool, "run in several processes (jax.distributed)"] = False
  dry_run: Annotated[bool, "print the plan and stop"] = False


KEYS = options.describe(Keys)
# Defaults of the response task, where a text is a prompt and its response.
RESPONSE = {"max_length": 1024, "batch": 4}
MODULES = ("method", "wrapper")  # keys that hold a name and the keywords of its `make`


def validate(config: Mapping[str, Any]) -> None:
  """Checks everything that can be checked before a file is read.

  Raises:
    UserError: names the key, its value and what is accepted.
  """
  known = {*KEYS, *MODULES}
  for key in config:
    if key not in known:
      raise UserError(f"unknown config key --config.{key}{options.nearest(key, known)}")
  if missing := known.difference(config):
    raise UserError(
      f"the config lacks {', '.join(sorted(missing))}; start it from "
      "ssljax.configs.base.get_config(METHOD), or set the keys"
    )
  for key in MODULES:
    module = config[key]
    if not isinstance(module, Mapping) or not isinstance(module.get("name"), str):
      raise UserError(
        f"--config.{key}={module!r}: it must have a name, and may have keywords"
      )
  if not config["data"]:
    raise UserError(
      "no data: set --config.data to a folder with train, validation and test files, "
      "to files separated by commas, or to pyrit to try it out"
    )
  try:
    options.check(KEYS, {key: config[key] for key in KEYS})
  except ValueError as error:
    raise UserError(f"--config.{error}") from None
  if config["ema"] == 1:
    raise UserError(f"--config.ema={config['ema']}: it must be below 1")
  # Dropout draws one byte per entry: see models/dropout.py.
  if config["dropout"] > 0 and not 0 < round(256 * config["dropout"]) < 256:
    raise UserError(
      f"--config.dropout={config['dropout']}: rates are multiples of 1/256; set 0, or "
      "a rate from 0.002 to 0.998"
    )
  for key in ("labelled_imbalance", "unlabelled_imbalance"):
    if config[key] and not abs(config[key]) >= 1:
      raise UserError(
        f"--config.{key}={config[key]}: set 0, or a ratio of at least 1 (10: the first "
        "class is ten times the last; -10: the last is ten times the first)"
      )
    if config[key] and not config["labels"]:
      raise UserError(
        f"--config.{key}={config[key]:g} needs a label budget, but --config.labels=0 "
        "uses every label; set a budget, such as --config.labels=200"
      )


def steps_of(config: Mapping[str, Any], labelled: int) -> dict[str, int]:
  """The step counts that depend on the data: 0 and -1 are filled in.

  Args:
    labelled: number of labelled texts.
  """
  epoch = math.ceil(labelled / config["batch"])
  steps = config["steps"] or config["passes"] * epoch
  warmup = config["warmup"] if config["warmup"] >= 0 else epoch
  return {
    "epoch_steps": epoch,
    "steps": steps,
    "warmup": min(warmup, steps - 1),
    "eval_every": min(config["eval_every"] or epoch, steps),
  }


def method_name(config: Mapping[str, Any]) -> str:
  """The name of the method, such as "fixmatch" or "abc over fixmatch"."""
  wrapper, method = config["wrapper"]["name"], config["method"]["name"]
  return f"{wrapper} over {method}" if wrapper else method


def new_workdir(name: str) -> Path:
  """The folder of a run for which none was chosen: runs/NAME-TIME."""
  return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
