"""Describes and checks the keys of a training config."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from ssljax import aims, options
from ssljax.errors import UserError
from ssljax.options import Absent, Amount, Count, Natural, Range, Share

Views = tuple[str, ...]
Imbalance = Annotated[float, Range(-math.inf)]  # 0, at least 1, or at most -1


class Keys:
  """Every key with its default, except `method` and `wrapper`, which have keywords.

  The defaults are the settings of arXiv 2512.21107, as far as its authors published
  them.
  """

  name: Annotated[str, "NAME in the name of the run's folder, runs/NAME-TIME"] = ""

  preset: Annotated[
    Literal["", "published"],
    "published: keywords of the method and wrapper that have their default get the "
    "value of the method's authors",
  ] = ""

  # Data
  data: Annotated[
    str, "dataset folder, files separated by commas, or a named source such as pyrit"
  ] = ""
  encoder: Annotated[str, "pretrained encoder: a folder or a name on the Hub"] = (
    "microsoft/deberta-v3-base"
  )
  labels: Annotated[Natural, "number of labelled texts; 0: all labels"] = 200
  balance: Annotated[
    Literal["balanced", "stratified"],
    "balanced: the same number of labelled texts in each class; stratified: class "
    "frequencies as in the data",
  ] = "balanced"
  labelled_imbalance: Annotated[
    Imbalance,
    "instead of balance: ratio of the largest to the smallest class of the labelled "
    "texts; negative: the last class is the largest; 0: off",
  ] = 0.0
  unlabelled_imbalance: Annotated[
    Imbalance, "like labelled_imbalance, for unlabelled texts; leaves out surplus texts"
  ] = 0.0
  include_labelled: Annotated[
    bool, "use the labelled texts as unlabelled texts, in addition"
  ] = False
  pseudo_labels: Annotated[
    str,
    "file of pseudo-labels for unlabelled texts, which then train as labelled texts; "
    "ssljax.self_train writes it",
  ] = ""
  weak: Annotated[
    Views, "kinds of the weak view; each visit of a text draws a candidate"
  ] = ("self",)
  medium: Annotated[Views, "kinds of the medium view (sequencematch)"] = ("words",)
  strong: Annotated[Views, "kinds of the strong view"] = ("words",)
  missing_view: Annotated[
    Literal["error", "words", "self", "drop"], "what to do with rows that lack a view"
  ] = "error"
  view_format: Annotated[
    Literal[3, 2, 1],
    "version of the views; 3: drawn from tokens at each visit; 2: made at the start; "
    "1: as 2, and words end at combining marks, as in version 0.1.0",
    Absent(1, former=(2,)),
  ] = 3
  on_overlap: Annotated[
    Literal["error", "drop"],
    "what to do with training texts that occur in validation or test",
  ] = "error"
  max_length: Annotated[
    int, Range(8), "tokens per text; longer texts are truncated"
  ] = 512
  tokenizer_backend: Annotated[
    Literal["hf", "tftext"],
    "hf: the library tokenizers; tftext: tensorflow-text; both give the same ids",
  ] = "hf"
  tokenization: Annotated[
    Literal["exact", "transformers"],
    "exact: [SEP] and the like in a text are text, and spm.model is followed as "
    "published; transformers: as transformers reads the folder, as in version 0.1.0",
    Absent("transformers"),
  ] = "exact"
  verify: Annotated[
    bool,
    "compare the data files and all cached tokens with their digests, even if their "
    "sizes and times haven't changed",
  ] = False

  # Model
  head: Annotated[
    Literal["mlp", "hf"],
    "mlp: mean pooling and an MLP; hf: as in ForSequenceClassification",
  ] = "mlp"
  dropout: Annotated[Share, "dropout rate of encoder and head"] = 0.1
  dtype: Annotated[Literal["float32", "bfloat16"], "compute dtype of training"] = (
    "float32"
  )
  remat: Annotated[bool, "recompute layers in the backward pass to save memory"] = False
  unroll: Annotated[
    Natural,
    "layers in each round of the compiled loop: more are faster, but take longer to "
    "compile; 0: all of up to 6 layers on a CPU without remat, otherwise 1",
    Absent(1),
  ] = 0
  attention: Annotated[
    Literal["auto", "plain", "kernel"],
    "kernel: passes of a BERT without dropout use a fused kernel, on a GPU or TPU; "
    "auto: the same if there is such a kernel; plain: no kernel",
    Absent("plain"),
  ] = "auto"

  # Run
  seed: Annotated[int, Range(0, 2**31 - 1), "seed of all random draws"] = 0
  batch: Annotated[Count, "labelled texts per step"] = 16
  unlabelled_ratio: Annotated[Count, "unlabelled texts per labelled text in a step"] = 3
  steps: Annotated[Natural, "training steps; 0: set by passes"] = 0
  passes: Annotated[Count, "if steps is 0: passes over the labelled texts"] = 100
  accumulation: Annotated[Count, "micro-batches per step"] = 1
  weak_dropout: Annotated[bool, "dropout in passes without gradient"] = True
  order: Annotated[
    Literal["stratified", "random"],
    "stratified: each batch has texts of all lengths; random: a random batch",
    Absent("random"),
  ] = "stratified"
  layout: Annotated[
    Literal["packed", "padded"],
    "packed: several texts per row; padded: one text per row",
  ] = "packed"

  # Optimizer
  learning_rate: Annotated[Amount, "peak learning rate"] = 5e-5
  layer_decay: Annotated[
    Share, "learning rate of a layer relative to the layer above it"
  ] = 0.75
  weight_decay: Annotated[Amount, "weight decay of AdamW"] = 5e-4
  warmup: Annotated[
    int, Range(-1), "warm-up steps; -1: one pass over the labelled texts"
  ] = -1
  clip: Annotated[Amount, "gradients are clipped to this global norm; 0: off"] = 0.0
  ema: Annotated[
    Share,
    "decay of a running average of the parameters; the average is evaluated; 0: off",
  ] = 0.0

  # Evaluation and checkpoints
  eval_every: Annotated[
    Natural, "steps between validations; 0: one pass over the labelled texts"
  ] = 0
  select: Annotated[
    Literal["f1", "macro_f1", "accuracy", "precision", "recall", "auroc", "auprc"],
    "validation metric that chooses the checkpoint",
  ] = "f1"
  aims: Annotated[
    tuple[str, ...],
    "what thresholds should achieve: fpr=1%, recall=95%, precision=90%, review=5%, "
    "cost=10:1, best_f1",
    Absent(
      (*("fpr=0.1%", "fpr=1%", "fpr=5%", "precision=90%", "precision=95%", "best_f1"),)
    ),
  ] = ("fpr=1%", "fpr=5%", "recall=95%", "precision=90%", "best_f1")
  calibration: Annotated[
    float,
    Range(0.0, 0.9),
    "share of validation that is held back from the choice of the checkpoint, so that "
    "thresholds can be promised",
  ] = 0.0
  patience: Annotated[
    Natural, "stop after this many validations without improvement; 0: never stop early"
  ] = 0
  checkpoint_every: Annotated[
    Natural, "steps between checkpoints; 0: about a minute of work"
  ] = 0
  log_every: Annotated[Count, "steps between lines of metrics.jsonl"] = 10
  tracker: Annotated[
    Literal["", "wandb", "mlflow", "wandb,mlflow"],
    "also log to W&B or MLflow (extras of the same names)",
  ] = ""
  profile: Annotated[
    int, Range(0, 100), "trace this many steps with jax.profiler, after the first few"
  ] = 0

  # Devices
  parallel: Annotated[Literal["jit", "pmap"], "how a step runs on several devices"] = (
    "jit"
  )
  fsdp: Annotated[Count, "devices that share one copy of the parameters"] = 1
  shard_tables: Annotated[
    bool,
    "split what a method keeps for each unlabelled text over the devices, instead of a "
    "copy on each",
  ] = False
  prng: Annotated[Literal["rbg", "threefry2x32"], "random number generator of JAX"] = (
    "rbg"
  )
  dropout_bits: Annotated[
    Literal["hash", "prng"],
    "random bits of dropout: from a cheap hash, or from the generator",
    Absent("prng"),
  ] = "hash"
  distributed: Annotated[bool, "run in several processes (jax.distributed)"] = False
  dry_run: Annotated[bool, "print the plan and stop"] = False


KEYS = options.describe(Keys)
# Defaults of the response task, where a text is a prompt and its response.
RESPONSE = {"max_length": 1024, "batch": 4}
MODULES = ("method", "wrapper")  # their values are a name and keywords for its `make`


def validate(config: Mapping[str, Any]) -> None:
  """Checks everything that can be checked without reading a file.

  Raises:
    UserError: a key or value is invalid; the message says what is accepted.
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
        f"--config.{key}={module!r}: give a name and, if you like, keywords"
      )
  if not config["data"]:
    raise UserError(
      "no data: set --config.data to a folder with train, validation and test files, "
      "to files separated by commas, or, to try ssljax, to the public dataset pyrit"
    )
  try:
    options.check(KEYS, {key: config[key] for key in KEYS})
  except ValueError as error:
    raise UserError(f"--config.{error}") from None
  for aim in config["aims"]:
    try:
      aims.parse(aim)
    except ValueError as error:
      raise UserError(f"--config.aims={','.join(config['aims'])}: {error}") from None
  if config["ema"] == 1:
    raise UserError(f"--config.ema={config['ema']}: it must be below 1")
  if config["remat"] and config["unroll"] > 1:
    raise UserError(
      f"--config.unroll={config['unroll']} would undo --config.remat=true: XLA merges "
      "recomputed layers with the first computation; leave one of them out"
    )
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
  """Returns the step counts, with 0 and -1 replaced by counts that fit the data.

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
  """Returns the name of the method, such as "fixmatch" or "abc over fixmatch"."""
  wrapper, method = config["wrapper"]["name"], config["method"]["name"]
  return f"{wrapper} over {method}" if wrapper else method


def new_workdir(name: str) -> Path:
  """Returns the default folder of a run, runs/NAME-TIME."""
  return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
