"""A tiny model and made-up texts, for tests of everything around them."""

import functools
import itertools
import json
import typing

import jax
import numpy as np
import optax

from ssljax import lookup, methods, sharding, wrappers
from ssljax.batch import Rows, Texts
from ssljax.data.batches import loader, tokenize
from ssljax.method import Sizes
from ssljax.models import Encoder
from ssljax.models.classifier import Classifier
from ssljax.models.config import from_json
from ssljax.training import step

LABELLED, UNLABELLED, BATCH, UNLABELLED_BATCH, CLASSES = 24, 64, 8, 16, 3
STEPS, EPOCH_STEPS, LONGEST, VOCABULARY = 24, 3, 30, 100

CONFIG = {
  "model_type": "bert",
  "hidden_size": 16,
  "num_hidden_layers": 1,
  "num_attention_heads": 2,
  "intermediate_size": 32,
  "vocab_size": VOCABULARY,
  "max_position_embeddings": 64,
  "type_vocab_size": 2,
  "hidden_act": "gelu",
  "layer_norm_eps": 1e-12,
  "hidden_dropout_prob": 0.1,
  "attention_probs_dropout_prob": 0.1,
  "pad_token_id": 0,
  "initializer_range": 0.5,  # large, so that texts differ from the start
}


SETTINGS = {
  "threshold": 0.4,  # of 3 classes; an untrained model is rarely surer
  "gamma": 1.05,  # Dash: the loss of a tiny model does not fall as fast
  "batches": 1,  # CoMatch smooths once its queue is full: after some steps
}
AROUND = {  # of wrappers: in some steps they do what they are for
  "threshold": 0.3,  # ABC's head begins all but undecided between 3 classes
  "warmup": 0.0,
  "every": 2,
}
KINDS = ("variant", "mix")  # keywords whose every value is another algorithm


def cases() -> list[str]:
  """Every method, with every variant that its `make` names, and every wrapper.

  "method", "method:variant", "fixmatch/wrapper".
  """
  found = []
  for name in methods.names():
    hints = typing.get_type_hints(lookup.factory(methods, name))
    variants = [v for kind in KINDS for v in typing.get_args(hints.get(kind))]
    found += [f"{name}:{variant}" for variant in variants] or [name]
  return found + [f"fixmatch/{name}" for name in wrappers.names()]


def method(case: str, **more):
  """The method of "method" or "method:variant"; `more` keywords where it has them."""
  name, _, variant = case.partition(":")
  known = methods.defaults(name)
  kinds = {kind: variant for kind in KINDS if kind in known and variant}
  return methods.make(
    {"name": name, **kinds, **{k: v for k, v in more.items() if k in known}}
  )


class Tiny:
  """One method on the tiny model. Steps run on `count` devices, jit or pmap."""

  def __init__(self, case: str, micro: int = 1, dropout: float = 0.0):
    case, _, wrapper = case.partition("/")
    known = wrappers.defaults(wrapper)
    around = {k: v for k, v in AROUND.items() if k in known}
    self.method = wrappers.wrap(method(case, **SETTINGS), {"name": wrapper, **around})
    self.micro = micro
    rng = np.random.default_rng(0)
    needs = self.method.needs
    unlabelled = UNLABELLED if needs.views else 0
    self.data = loader.TrainSet(
      {v: made_up(rng, LABELLED) for v in needs.labelled_views},
      {v: made_up(rng, UNLABELLED, 2) for v in needs.views},
      np.arange(LABELLED, dtype=np.int32) % 5 // 2,  # classes of 10, 10 and 4 texts
      rng.integers(0, CLASSES, unlabelled).astype(np.int32),
    )
    size = UNLABELLED_BATCH if unlabelled else 0
    counts = tuple(np.bincount(self.data.label, minlength=CLASSES).tolist())
    self.sizes = Sizes(
      *(CLASSES, LABELLED, unlabelled, BATCH, size, STEPS, EPOCH_STEPS),
      *(counts, CONFIG["hidden_size"]),
    )
    self.model = Classifier(
      Encoder(from_json(CONFIG, "tiny"), dropout=dropout),
      CLASSES + needs.virtual_classes,
      "mlp",
      dict(needs.heads),
      dropout,
    )
    # Not Adam: it turns the noise of a gradient that is zero (a key's bias) into steps.
    self.optimizer = optax.sgd(0.05, momentum=0.9)
    key, features = jax.random.key(0, impl="threefry2x32"), np.zeros((1, 16))
    heads = self.model.init(key, features, method="classify")["params"]
    params = heads | {"encoder": first_encoder()}
    # Initial logits are all but equal; of these some texts pass thresholds.
    self.params = params | {
      "classifier": jax.tree.map(lambda a: a * 40, params["classifier"])
    }
    self.steps, self.loaders = {}, {}

  def loader(self, shards: int, micro: int | None = None, packed=True, lengths=(32,)):
    packed = packed and self.method.needs.layout != "padded"
    return loader.Loader(
      self.data,
      batch=BATCH,
      unlabelled_batch=self.sizes.unlabelled_batch,
      classes=CLASSES + self.method.needs.virtual_classes,
      seed=0,
      steps=STEPS,
      layout=loader.Layout(shards, micro or self.micro, [lengths], packed),
    )

  def devices(self, count: int = 1, parallel: str = "jit", fsdp: int = 1):
    return sharding.make_devices(parallel, fsdp, jax.devices()[:count])

  def state(self, devices=None):
    """The first state, on the devices."""
    devices = devices or self.devices()
    state = step.init_state(
      jax.tree.map(np.copy, self.params),
      method=self.method,
      optimizer=self.optimizer,
      sizes=self.sizes,
      ema=self.method.needs.teacher,
      key=jax.random.key(1, impl="rbg"),
    )
    return sharding.put(state, sharding.state_shardings(state, devices))

  def step(self, devices):
    """The compiled step, one for each way of running."""
    key = (devices.shards, devices.parallel, devices.mesh.shape["fsdp"])
    if key not in self.steps:
      axis = "data" if devices.parallel == "pmap" else None
      self.steps[key] = sharding.compile_train_step(
        step.make_train_step(
          model=self.model,
          method=self.method,
          optimizer=self.optimizer,
          sizes=self.sizes,
          ema=0.9 if self.method.needs.teacher else 0.0,
          micro=self.micro,
          axis=axis,
        ),
        devices,
        sharding.state_shardings(self.state(), devices),
        self.micro > 1,
      )
    return self.steps[key]

  def run(
    self, steps: range, state=None, devices=None, change=lambda batch: batch, **layout
  ):
    """The state and the metrics after `steps`; `change` may alter each batch."""
    devices = devices or self.devices()
    state = self.state(devices) if state is None else state
    key = (devices.shards, *layout.items())
    if key not in self.loaders:
      self.loaders[key] = self.loader(devices.shards, **layout)
    batches = self.loaders[key]
    metrics = {}
    for t in steps:
      batch, hidden = batches.batch(t)
      placed = sharding.put_batch(change(batch), hidden, devices, self.micro > 1)
      state, metrics = self.step(devices)(state, *placed)
    return state, metrics


@functools.cache
def first_encoder():
  """Parameters of a random encoder."""
  model = Classifier(Encoder(from_json(CONFIG, "tiny")), CLASSES)
  ids = np.ones((1, 1, 8), np.int32)
  one = Texts((Rows(ids, ids, ids, ids[:, :, :1]),), ids[:, :, 0])
  key = jax.random.key(0, impl="threefry2x32")
  return jax.jit(model.init)(key, (one,))["params"]["encoder"]


def made_up(rng: np.random.Generator, rows: int, candidates: int = 1) -> loader.View:
  """A view of random tokens, 3 to LONGEST a text."""
  lengths = rng.integers(3, LONGEST, rows * candidates)
  ids = rng.integers(5, VOCABULARY, lengths.sum()).astype(np.int32)
  offset = np.concatenate([[0], np.cumsum(lengths)])
  tokens = tokenize.Tokens(
    ids, offset, lengths.astype(np.int32), np.zeros(len(lengths), bool)
  )
  return loader.View(tokens, np.arange(0, rows * candidates + 1, candidates))


def host(tree):
  """NumPy copies of all leaves, keys as their data."""
  return jax.tree.map(
    lambda a: np.array(
      jax.random.key_data(a)
      if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key)
      else a
    ),
    tree,
  )


WORDS = ["kind", "calm", "help", "bread", "bake", "harm", "hurt", "steal", "a", "the"]


def folder_of_encoder(path, seed: int = 0) -> None:
  """A Hugging Face folder of a tiny random BERT with a word-piece vocabulary."""
  from ssljax.models import save_params

  config = from_json(CONFIG, "tiny")
  ids = np.zeros((1, 4), np.int32)
  params = Encoder(config).init(jax.random.key(seed), ids, ids + 1)["params"]
  save_params(path, config, params)
  vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
  (path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
  (path / "tokenizer_config.json").write_text(
    json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
  )


def write_rows(path, rows: int, seed: int) -> None:
  """JSONL of texts whose label the words give away; train, val and test alike."""
  rng = np.random.default_rng(seed)
  good, bad, common = WORDS[:5], WORDS[5:8], WORDS[8:]
  label = itertools.cycle([0, 1])
  with open(path, "w") as file:
    for i in range(rows):
      y = next(label)
      words = rng.choice([*(bad if y else good), *common], rng.integers(4, 14))
      row = {"id": f"{path.stem}-{i}", "text": " ".join(words), "label": y}
      file.write(json.dumps(row) + "\n")
