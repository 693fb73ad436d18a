"""Runs train steps of a method with a tiny model on random texts."""

import collections
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from ssljax import sharding
from ssljax.batch import Rows, Texts
from ssljax.data.batches.loader import Layout, Loader, TrainSet, View
from ssljax.data.batches.tokenize import Tokens
from ssljax.method import Method, Sizes
from ssljax.models import EncoderConfig
from ssljax.models.classifier import NETWORK, Classifier
from ssljax.training.shared_rows import find_groups
from ssljax.training.step import Metrics, TrainState, init_state, make_train_step

LABELLED, UNLABELLED, BATCH, UNLABELLED_BATCH, CLASSES = 24, 64, 8, 16, 3
STEPS, EPOCH_STEPS, LONGEST, VOCABULARY = 24, 3, 30, 100

CONFIG = EncoderConfig(
  vocab_size=VOCABULARY,
  hidden_size=16,
  num_hidden_layers=1,
  num_attention_heads=2,
  intermediate_size=32,
  max_position_embeddings=64,
  initializer_range=0.5,  # large, so that texts differ from the start
)


class WordEncoder(nn.Module):
  """An encoder whose hidden states are the word embeddings; see `models.Encoder`.

  Programs with it compile faster.
  """

  config: EncoderConfig

  def setup(self):
    wide = nn.initializers.normal(4.0)  # so that means of words differ enough
    self.word = nn.Embed(
      self.config.vocab_size, self.config.hidden_size, embedding_init=wide
    )

  def embed(self, ids):
    return self.word(ids)

  def __call__(
    self, ids, mask, kind=None, embedding=None, deterministic=True, mix=None
  ):
    x = self.word(ids) if embedding is None else embedding
    if mix is not None:
      partner, share, _ = mix
      share = jnp.broadcast_to(share, x.shape[:1])[:, None, None]
      real = jnp.where(mask[..., None] > 0, x, 0)
      x = share * real + (1 - share) * real[partner]
    return x


class TinyRun:
  """A run of one method with a tiny model, on any number of devices.

  The model has width 16 and the heads that the method needs. `micro` is the number of
  micro-batches per step; `encoder` is by default a `WordEncoder`.
  """

  def __init__(self, method: Method, micro: int = 1, encoder: nn.Module | None = None):
    encoder = encoder or WordEncoder(CONFIG)
    self.method, self.micro, self.encoder = method, micro, encoder
    rng = np.random.default_rng(0)
    needs = method.needs
    unlabelled = UNLABELLED if needs.views else 0
    self.data = TrainSet(
      {name: random_view(rng, LABELLED) for name in needs.labelled_views},
      {name: random_view(rng, UNLABELLED, 2) for name in needs.views},
      np.arange(LABELLED, dtype=np.int32) % 5 // 2,  # classes of 10, 10 and 4 texts
      rng.integers(0, CLASSES, unlabelled).astype(np.int32),
    )
    self.sizes = Sizes(
      classes=CLASSES,
      labelled=LABELLED,
      unlabelled=unlabelled,
      batch=BATCH,
      unlabelled_batch=UNLABELLED_BATCH if unlabelled else 0,
      steps=STEPS,
      epoch_steps=EPOCH_STEPS,
      labelled_counts=tuple(np.bincount(self.data.label).tolist()),
      width=CONFIG.hidden_size,
    )
    self.model = Classifier(
      encoder, CLASSES + needs.virtual_classes, "mlp", dict(needs.heads), rate=0.0
    )
    # Adam would amplify noise in gradients that should be 0, as for the keys' bias.
    self.optimizer = optax.sgd(0.05, momentum=0.9)
    init_heads = jax.jit(functools.partial(self.model.init, method="classify"))
    heads = init_heads(initial_key(), np.zeros((1, 16)))["params"]

    def complete(heads):
      # Initial logits are almost equal; with 40 times the weights, some texts pass
      # thresholds.
      classifier = jax.tree.map(lambda a: a * 40, heads["classifier"])
      return heads | {"encoder": initial_encoder(encoder), "classifier": classifier}

    others = {k: complete(v) for k, v in heads.items() if k.startswith(NETWORK)}
    self.params = complete(heads) | others
    self.shapes = collections.defaultdict(set)  # of the batches of `run`, by devices
    self._steps: dict[sharding.Devices, Callable] = {}
    self._loaders: dict[Any, Loader] = {}

  def loader(
    self, shards: int, packed: bool = True, shared: bool = True, limit: int = 32
  ) -> Loader:
    """The loader of these data.

    Args:
      shared: whether views that are in the same passes share rows.
      limit: the length of the longest rows.
    """
    packed = packed and self.method.needs.layout != "padded"
    groups = find_groups(self.method, self.model, self.sizes, self.micro)
    return Loader(
      self.data,
      batch=BATCH,
      unlabelled_batch=self.sizes.unlabelled_batch,
      classes=CLASSES + self.method.needs.virtual_classes,
      seed=0,
      steps=STEPS,
      layout=Layout(shards, self.micro, limit, packed),
      groups=groups if shared else (),
    )

  def devices(self, count: int = 1, parallel: str = "jit", fsdp: int = 1):
    return sharding.make_devices(parallel, fsdp, jax.devices()[:count])

  def state(self, devices=None) -> TrainState:
    """The initial state, placed on the devices."""
    devices = devices or self.devices()
    state = init_state(
      jax.tree.map(np.copy, self.params),
      method=self.method,
      optimizer=self.optimizer,
      sizes=self.sizes,
      ema=self.method.needs.teacher,
      key=jax.random.key(1, impl="rbg"),
    )
    return sharding.put(state, sharding.state_shardings(state, devices))

  def step(self, devices):
    """The compiled train step for these devices."""
    if devices not in self._steps:
      step = make_train_step(
        model=self.model,
        method=self.method,
        optimizer=self.optimizer,
        sizes=self.sizes,
        ema=0.9 if self.method.needs.teacher else 0.0,
        micro=self.micro,
        axis="data" if devices.parallel == "pmap" else None,
      )
      shardings = sharding.state_shardings(self.state(), devices)
      self._steps[devices] = sharding.compile_train_step(
        step, devices, shardings, self.micro > 1
      )
    return self._steps[devices]

  def run(
    self,
    steps: range,
    state: TrainState | None = None,
    devices=None,
    change: Callable[[Any], Any] = lambda batch: batch,
    **layout,
  ) -> tuple[TrainState, Metrics]:
    """Runs `steps`, by default from the initial state on one device.

    Args:
      change: maps each (batch, hidden labels), with NumPy leaves, to the batch and
        labels that are used instead.
      layout: `packed`, `shared` and `limit` of `loader`.

    Returns:
      (state, metrics) after the last step.
    """
    devices = devices or self.devices()
    state = self.state(devices) if state is None else state
    key = (devices.shards, *layout.items())
    if key not in self._loaders:
      self._loaders[key] = self.loader(devices.shards, **layout)
    metrics: Metrics = {}
    for t in steps:
      batch, hidden = change(self._loaders[key].batch(t))
      self.shapes[devices].add(str(jax.tree.map(np.shape, batch)))
      placed = sharding.put_batch(batch, hidden, devices, self.micro > 1)
      state, metrics = self.step(devices)(state, *placed)
    return state, metrics


def initial_key():
  return jax.random.key(0, impl="threefry2x32")


@functools.cache
def initial_encoder(encoder: nn.Module):
  """Random parameters."""
  model = Classifier(encoder, CLASSES)
  ids = np.ones((1, 1, 8), np.int32)
  text = Texts((Rows(ids, ids, ids, ids[:, :, :1]),), ids[:, :, 0])
  return jax.jit(model.init)(initial_key(), (text,))["params"]["encoder"]


def random_view(rng: np.random.Generator, rows: int, candidates: int = 1) -> View:
  """A view of random tokens, 3 to LONGEST per text."""
  lengths = rng.integers(3, LONGEST, rows * candidates)
  ids = rng.integers(5, VOCABULARY, lengths.sum()).astype(np.int32)
  offset = np.concatenate([[0], np.cumsum(lengths)])
  tokens = Tokens(ids, offset, lengths.astype(np.int32), np.zeros(len(lengths), bool))
  return View(tokens, np.arange(0, rows * candidates + 1, candidates))


def to_numpy(tree):
  """NumPy copies of all leaves; a PRNG key becomes its data."""

  def copy(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.array(jax.random.key_data(leaf) if is_key else leaf)

  return jax.tree.map(copy, tree)
