"""Every key with its default; a config file starts from here.

The defaults are the settings of arXiv 2512.21107 as far as its authors' configs tell:
prompt task, batch 16, ratio 3, 512 tokens, 100 passes over the labelled texts.
`configs/METHOD.py:TASK`: the task is prompt or response, with a wrapper prompt+abc.
A file for each method calls it; by itself it is FixMatch's.
"""

import ml_collections

from ssljax import methods, wrappers
from ssljax.errors import UserError


def get_config(method: str = "fixmatch", task: str = "prompt"):
  """The config of one method; `task` is "prompt" or "response", "prompt+WRAPPER"."""
  task, _, wrapper = task.partition("+")
  if task not in ("prompt", "response"):
    raise UserError(f"unknown task {task!r} after the config file: prompt or response")
  response = task == "response"
  config = ml_collections.ConfigDict()
  config.name = method
  keywords = methods.defaults(method)
  config.method = ml_collections.ConfigDict({"name": method, **keywords})
  # Around the method, for classes of unlike size: a file of ssljax/wrappers.
  keywords = wrappers.defaults(wrapper)
  config.wrapper = ml_collections.ConfigDict({"name": wrapper, **keywords})

  # What is read.
  config.data = ""  # a folder, files separated by commas, or a source such as pyrit
  config.encoder = "microsoft/deberta-v3-base"  # a folder or a name
  config.labels = 200  # labelled texts; 0 takes every label
  config.balance = "balanced"  # how they are drawn: balanced | stratified
  # Largest class : smallest, by a constant factor from the first class on; below 0
  # from the last one on; 0 leaves them as they are.
  config.labelled_imbalance = 0.0  # of the labelled texts, instead of `balance`
  config.unlabelled_imbalance = 0.0  # of the unlabelled ones; the others are left out
  config.include_labelled = False  # labelled texts in the unlabelled pool, too
  config.weak = ("self",)  # kinds of view; one candidate is drawn a visit
  config.medium = ("words",)  # for methods that have a third view
  config.strong = ("words",)
  config.missing_view = "error"  # a row without the view: error | words | self | drop
  config.on_overlap = "error"  # texts of train in validation or test: error | drop
  config.max_length = 1024 if response else 512  # tokens
  config.tokenizer_backend = "hf"  # who makes ids: hf | tftext (tensorflow-text)

  # The model.
  config.head = "mlp"  # mlp | hf (that of ForSequenceClassification)
  config.dropout = 0.1  # wherever the encoder and its head drop
  config.dtype = "float32"  # compute: float32 | bfloat16
  config.remat = False  # recompute layers in the backward pass: less memory

  # The run.
  config.seed = 0
  config.batch = 4 if response else 16  # labelled texts a step
  config.unlabelled_ratio = 3  # unlabelled texts for each labelled one
  config.steps = 0  # 0: `passes` over the labelled texts
  config.passes = 100
  config.accumulation = 1  # micro-batches a step
  config.weak_dropout = True  # dropout in passes without gradient, as published
  config.layout = "packed"  # packed | padded

  # The optimiser.
  config.learning_rate = 5e-5
  config.layer_decay = 0.75
  config.weight_decay = 5e-4
  config.warmup = -1  # steps; -1: one pass over the labelled texts
  config.clip = 0.0  # global norm of the gradient; 0: off
  config.ema = 0.0  # decay of the parameters' average, which is then evaluated; 0: off

  # Evaluation and checkpoints.
  config.eval_every = 0  # steps; 0: one pass over the labelled texts
  config.select = "f1"  # metric on validation that picks the checkpoint
  config.patience = 0  # evaluations without a better one before stopping; 0: never
  config.checkpoint_every = 0  # steps; 0: about a minute's work
  config.log_every = 10  # steps

  # Devices.
  config.parallel = "jit"  # jit (over a mesh) | pmap
  config.fsdp = 1  # devices that share one copy of the parameters
  config.prng = "rbg"  # random bits: rbg | threefry2x32
  config.distributed = False  # several processes: jax.distributed.initialize()
  config.dry_run = False  # print the plan and stop
  return config
