"""Counts the FLOPs that a step needs, and knows the peak rates of devices.

Only matrix products count; a multiplication and its addition are two FLOPs. With the
letters D hidden_size, I intermediate_size, E embedding_size, K layers, and t the number
of DeBERTa's relative terms (0 for BERT, 2 for c2p and p2c), the forward pass needs

  per token                  2 K (4 D^2 + 2 D I), plus 2 E D if E is not D, plus
                             2 D^2 conv_kernel_size / conv_groups with a convolution
  per pair of tokens         2 K D (2 + t): scores, weighted values, relative terms
  per call of the encoder    2 K t 2 relative_span D^2: projected relative embeddings
  per text                   2 times the sizes of the kernels of all heads

A text of n tokens has n^2 pairs. Pairs of different texts in a packed row, padding, and
layers that are computed a second time (`remat`) don't count: this is what the step
needs, not what a program computes. A backward pass needs twice the forward pass, since
each product has two gradients. A pass without gradient over given embeddings, as in
VAT, is there for a derivative with respect to them, which costs another forward pass.
Mixed hidden states count with the lengths of the texts before mixing.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.batch import Batch, Texts
from ssljax.method import Clock, Method, Sizes
from ssljax.models.classifier import NETWORK, Classifier
from ssljax.models.config import EncoderConfig
from ssljax.models.forward import ModelForward

# Dense bfloat16 products without sparsity, FLOP/s of a device, by the start of its
# `device_kind`; the first match counts. NVIDIA's data sheets ("with sparsity" halved)
# and the system-architecture pages of Google Cloud TPU. V100 and T4 are missing, since
# they have no bfloat16.
PEAKS = {
  "NVIDIA H200 NVL": 836e12,
  "NVIDIA H200": 989e12,
  "NVIDIA H100 NVL": 836e12,
  "NVIDIA H100 PCIe": 756e12,
  "NVIDIA H100": 989e12,
  "NVIDIA A100": 312e12,
  "NVIDIA A10G": 70e12,
  "NVIDIA L40S": 362e12,
  "NVIDIA L4": 121e12,
  "TPU v4 lite": 138e12,
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5e": 197e12,
  "TPU v5": 459e12,  # v5p
  "TPU v6 lite": 918e12,
  "TPU v6e": 918e12,
}


def peak(devices: Sequence[jax.Device]) -> float | None:
  """The peak rate of these devices together, FLOP/s; None if one is unknown."""
  rates = [
    next((rate for name, rate in PEAKS.items() if d.device_kind.startswith(name)), None)
    for d in devices
  ]
  return None if None in rates else float(sum(filter(None, rates)))


class Cost(NamedTuple):
  """FLOPs of a forward pass; see the module docstring."""

  token: int
  pair: int
  call: int
  text: int


class Passes(NamedTuple):
  """The work of a step, in forward passes; a pass with its backward pass counts 3."""

  views: dict[tuple[str, str], int]  # by part ("labelled", "unlabelled") and view
  calls: int  # of the encoder


def forward_cost(config: EncoderConfig, params: Any) -> Cost:
  """The cost of a forward pass through a classifier.

  Args:
    params: of the classifier, or their shapes. Each network counts.
  """
  layers, width = config.num_hidden_layers, config.hidden_size
  terms = len(set(config.pos_att_type)) if config.relative_attention else 0
  token = layers * (4 * width**2 + 2 * width * config.intermediate_size)
  if config.embedding_size != width:
    token += config.embedding_size * width
  if config.conv_kernel_size:
    token += config.conv_kernel_size * width**2 // config.conv_groups
  networks = 1 + sum(name.startswith(NETWORK) for name in params)
  heads = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    names = [str(getattr(key, "key", key)) for key in path]
    if names[-1] == "kernel" and "encoder" not in names:
      heads += int(np.prod(leaf.shape))
  return Cost(
    token=2 * networks * token,
    pair=2 * networks * layers * width * (2 + terms),
    call=2 * networks * layers * terms * 2 * config.relative_span * width**2,
    text=2 * heads,
  )


class StepFlops:
  """Counts the FLOPs that a step on a batch needs; `step_flops(batch)`.

  The first call runs the method's loss on shapes alone, to see which views pass through
  the model, and with or without gradient.
  """

  def __init__(
    self, *, model: Classifier, method: Method, params: Any, sizes: Sizes, micro: bool
  ):
    """`micro`: whether gradients are accumulated, as in `make_train_step`."""
    self._model, self._method, self._sizes, self._micro = model, method, sizes, micro
    self._params = jax.eval_shape(lambda tree: tree, params)
    self.cost = forward_cost(model.encoder.config, params)
    self.peak = peak(jax.local_devices())  # FLOP/s, None if unknown
    self._passes: Passes | None = None

  def __call__(self, batch: Batch) -> float:
    """FLOPs of the texts in `batch`, whose leaves are NumPy arrays."""
    work = self.passes(batch)
    total = self.cost.call * work.calls
    for (part, view), passes in work.views.items():
      texts, tokens, pairs = counts(getattr(batch, part).views[view])
      cost = self.cost.token * tokens + self.cost.pair * pairs + self.cost.text * texts
      total += passes * cost
    return float(total)

  def logged(self, batch: Batch) -> dict[str, float]:
    """{"flops": ...} for the log; empty if the peak or the passes are unknown."""
    with contextlib.suppress(Exception):  # a method of another package may do anything
      return {"flops": self(batch)} if self.peak else {}
    self.peak = None
    return {}

  def passes(self, batch: Batch) -> Passes:
    """The passes of a step, whatever the batch.

    Raises:
      ValueError: the method runs the model on texts that aren't views of the batch.
    """
    if self._passes is None:
      self._passes = _count_passes(
        self._model, self._method, self._params, self._sizes, self._micro, batch
      )
    return self._passes


def counts(texts: Texts) -> tuple[int, int, int]:
  """The number of texts, of their tokens, and of pairs of tokens of the same text."""
  by_length = []
  for rows in texts.rows:
    *lead, length = rows.segment.shape  # [..., S, R, L]
    slots = rows.first.shape[-1] + 1  # the first counts padding
    segment = rows.segment.reshape(-1, length)
    number = segment + slots * np.arange(len(segment))[:, None]
    tokens = np.bincount(number.ravel(), minlength=slots * len(segment))
    tokens = tokens.reshape(-1, slots)[:, 1:]
    by_length.append(tokens.reshape(*lead[:-1], -1))  # [..., S, R M]
  tokens = np.take_along_axis(np.concatenate(by_length, -1), texts.where, -1)
  return texts.where.size, int(tokens.sum()), int((tokens**2).sum())


class _Recorder:
  """A `Forward` on shapes alone that counts passes; its outputs are meaningless."""

  def __init__(self, forward: ModelForward, batch: Batch, sizes: Sizes):
    self._forward, self._batch = forward, batch
    self._rows = {"labelled": sizes.batch, "unlabelled": sizes.unlabelled_batch}
    self._width = forward.model.encoder.config.hidden_size
    self._embedded: tuple[str, str] | None = None  # the view that `embed` read
    self.passes = Passes({}, 0)

  def __call__(self, *texts, key, teacher=False, gradient=True):
    embedded = any(r.embedding is not None for view in texts for r in view.rows)
    factor = 3 if gradient and not teacher else 1 + embedded
    outputs = [self._outputs(self._rows[part]) for part in self._add(texts, factor)]
    return tuple(outputs) if len(texts) > 1 else outputs[0]

  def _add(self, texts, factor: int) -> list[str]:
    """Counts a call on these views; returns their parts of the batch."""
    names = [self._name(text) for text in texts]
    for name in names:
      self.passes.views[name] = self.passes.views.get(name, 0) + factor
    self.passes = self.passes._replace(calls=self.passes.calls + factor)
    return [part for part, _ in names]

  def _name(self, texts: Texts) -> tuple[str, str]:
    """The part and the name of a view of the batch, also with other embeddings."""
    for part in self._rows:
      for view, of_batch in getattr(self._batch, part).views.items():
        if texts.where is of_batch.where:
          return part, view
    if self._embedded and texts.rows[0].embedding is not None:
      return self._embedded
    raise ValueError("a pass over texts that aren't a view of the batch")

  def _outputs(self, rows: int):
    return self._forward.classify(jnp.zeros((rows, self._width), jnp.float32))

  def classify(self, features):
    return self._forward.classify(features)

  def mix(self, a, b, share, layer, key):
    self._add((a,) if isinstance(a, Texts) else a, 3)
    return self._outputs(b.shape[0])

  def embed(self, texts):
    self._embedded = self._name(texts)
    width = self._forward.model.encoder.config.embedding_size
    zeros = lambda rows: jnp.zeros((*rows.ids.shape, width), jnp.float32)
    rows = tuple(rows._replace(embedding=zeros(rows)) for rows in texts.rows)
    return texts._replace(rows=rows)

  @property
  def depth(self) -> int:
    return self._forward.depth


def _count_passes(model, method: Method, params, sizes: Sizes, micro, batch) -> Passes:
  passes = []

  def run(params, batch):
    forward = _Recorder(ModelForward(model, params, params), batch, sizes)
    zero, key = jnp.zeros((), jnp.int32), jax.random.key(0)
    clock = Clock(zero, jnp.zeros((), jnp.float32), zero, key, sizes.steps)
    state = method.init(sizes)
    if micro:
      assigned, _ = method.assign(forward, batch, state, clock)
      losses = method.learn(forward, batch, assigned, clock)
    else:
      losses = method.loss(forward, batch, state, clock)[0]
    passes.append(forward.passes)
    return losses

  jax.eval_shape(run, params, batch)
  return passes[-1]
