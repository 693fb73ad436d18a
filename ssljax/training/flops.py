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

import collections
import contextlib
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ssljax.batch import Batch, Texts
from ssljax.method import Method, Sizes
from ssljax.models.classifier import NETWORK, Classifier
from ssljax.models.config import EncoderConfig
from ssljax.training.passes import ViewName, record_passes

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


# What a pass costs, in forward passes.
FACTORS = {"train": 3, "mix": 3, "perturbed": 2, "read": 1, "embed": 0}


class StepFlops:
  """Counts the FLOPs that a step on a batch needs; `step_flops(batch)`."""

  def __init__(
    self,
    *,
    model: Classifier,
    method: Method,
    params: Any,
    sizes: Sizes,
    micro: int = 1,
  ):
    """`micro`: number of micro-batches, as in `make_train_step`."""
    self._record = lambda: record_passes(method, model, sizes, micro)
    self.cost = forward_cost(model.encoder.config, params)
    self.peak = peak(jax.local_devices())  # FLOP/s, None if unknown

  def __call__(self, batch: Batch) -> float:
    """FLOPs of the texts in `batch`, whose leaves are NumPy arrays.

    Raises:
      ValueError: the method runs the model on texts that aren't views of the batch.
    """
    batch, work = batch.with_shared_rows(), self.passes
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

  @functools.cached_property
  def passes(self) -> Passes:
    """The passes of a step, whatever the batch."""
    views: collections.Counter[ViewName] = collections.Counter()
    calls = 0
    for names, kind in self._record():
      calls += FACTORS[kind]
      for name in names:
        if name is None:
          raise ValueError("a pass over texts that aren't a view of the batch")
        views[name] += FACTORS[kind]
    return Passes(dict(views), calls)


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
