"""Computes the logits of many texts, packed densely into rows of a few lengths."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ssljax import sharding
from ssljax.batch import Texts
from ssljax.data.batches import pack
from ssljax.data.batches.tokenize import Tokens
from ssljax.errors import RunError

BATCH_TOKENS = 4096  # per device
PLANNED_TEXTS = 512  # number of texts that are packed into rows together
SHORTER = (128,)  # row lengths besides the longest
MANY_SHORTER = (64, 128, 256)  # if compiling more shapes is worthwhile

# Parameters times tokens that take two slow cores a few seconds, and how much more an
# accelerator does in this time.
BLOCK_WORK, ACCELERATOR = 2e11, 100
BLOCK_TOKENS = (2048, 1 << 18)  # limits

NO_TOKENS = Tokens(*(np.zeros(n, np.int64) for n in (0, 1, 0, 0)))

EvalStep = Callable[[Any, Texts], jax.Array]


class Scorer(NamedTuple):
  """A model on all devices. Maps tokens to logits, as `score` does."""

  eval_step: EvalStep  # compiled once for each shape of a batch
  params: Any
  row_lengths: tuple[int, ...]
  devices: sharding.Devices
  fit: bool

  def __call__(
    self, tokens: Tokens, name: Callable[[int], str] = "text {}".format
  ) -> np.ndarray:
    return score(*self[:2], tokens, *self[2:], name)

  def warm_up(self, rows: int) -> None:
    """Compiles all batches of up to `rows` rows, and waits until they have run once."""
    for length in self.row_lengths:
      most = max(1, BATCH_TOKENS // length)
      needed = min(most, -(-rows // self.devices.shards)) if self.fit else most
      powers = [1 << i for i in range((needed - 1).bit_length() + 1)]
      for count in [min(most, power) for power in powers] if self.fit else [most]:
        texts = _fill([], NO_TOKENS, length, self.devices.shards, count)
        placed = sharding.put_texts(texts, self.devices)
        jax.block_until_ready(self.eval_step(self.params, placed))

  def block_tokens(self) -> int:
    """How many tokens are scored in at most a few seconds, roughly."""
    sizes = [np.size(leaf) for leaf in jax.tree.leaves(self.params)]
    parameters = sum(sizes) - max(sizes)  # without the word embeddings
    factor = ACCELERATOR * self.devices.shards
    if jax.default_backend() == "cpu":
      factor = 1
    return int(np.clip(BLOCK_WORK * factor / max(1, parameters), *BLOCK_TOKENS))


def make_scorer(
  eval_step: EvalStep, params: Any, row_lengths: Sequence[int], fit: bool = False
) -> Scorer:
  """Puts a model on all devices; the arguments are those of `score`."""
  devices = sharding.make_devices()
  return Scorer(
    jax.jit(eval_step, out_shardings=devices.replicated),
    sharding.put(params, sharding.state_shardings(params, devices)),
    tuple(row_lengths),
    devices,
    fit,
  )


def with_step(scorer: Scorer, eval_step: EvalStep) -> Scorer:
  """A scorer with the same parameters, on the same devices, that runs another step.

  Args:
    eval_step: returns f32 [n, K], for any K; the new scorer's result has this shape.
  """
  replicated = scorer.devices.replicated
  return scorer._replace(eval_step=jax.jit(eval_step, out_shardings=replicated))


def choose_row_lengths(
  longest: int, shorter: Sequence[int] = SHORTER
) -> tuple[int, ...]:
  """Returns the row lengths, ascending, for texts of up to `longest` tokens.

  Short rows are cheaper, since the cost of attention grows with the square of the row
  length. They waste no space, since texts for a row are chosen from a large set.
  """
  return (*(length for length in shorter if length < longest), longest)


def score(
  eval_step: EvalStep,
  params: Any,
  tokens: Tokens,
  row_lengths: Sequence[int],
  devices: sharding.Devices,
  fit: bool = False,
  name: Callable[[int], str] = "text {}".format,
) -> np.ndarray:
  """Computes the logits, f32 [n, C], in the order of the texts, on every process.

  Args:
    eval_step: compiled `step.make_eval_step` with a replicated result.
    row_lengths: ascending. If a text is longer than all of them, its length is added.
    fit: if a batch isn't full, gives it only as many rows as it needs, rounded up to a
      power of two (on CPUs, makes several batches instead). Use this option for calls
      with few texts. By default, each row length has a single batch shape and is
      compiled once.
    name: maps the index of a text to the place that an error message names.

  Raises:
    RunError: the logits of a text are not finite. No threshold would flag NaN.
  """
  lengths = [*row_lengths]
  if (longest := int(tokens.lengths.max(initial=1))) > lengths[-1]:
    lengths.append(longest)  # not rounded up: the encoder may have no more positions
  batches = []  # dispatched to the devices without waiting for results
  for length, rows in _pack(tokens, lengths).items():
    most = max(1, BATCH_TOKENS // length)  # rows per device
    while rows:
      count = _fitting(len(rows), devices.shards, most) if fit else most
      batch, rows = rows[: count * devices.shards], rows[count * devices.shards :]
      texts = _fill(batch, tokens, length, devices.shards, count)
      logits = eval_step(params, sharding.put_texts(texts, devices))
      batches.append((batch, pack.slots_per_row(length, True), logits))
  result = None
  for batch, slots, logits in batches:
    logits = np.asarray(logits)
    if result is None:
      result = np.zeros((len(tokens.lengths), logits.shape[-1]), np.float32)
    by_row = logits.reshape(-1, slots, logits.shape[-1])
    for r, texts in enumerate(batch):
      result[texts] = by_row[r, : len(texts)]
  if result is not None:
    _require_finite(result, name)
  return result


def _fitting(rows: int, shards: int, most: int) -> int:
  """A power of two of rows per device for the next batch, or `most`."""
  needed = -(-rows // shards)
  if jax.default_backend() == "cpu":  # empty rows cost more than another call
    return min(most, 1 << (needed.bit_length() - 1))
  return min(most, 1 << (needed - 1).bit_length())


def _require_finite(result: np.ndarray, name: Callable[[int], str]) -> None:
  wrong = np.flatnonzero(~np.isfinite(result).all(axis=1))
  if wrong.size:
    raise RunError(
      f"{name(int(wrong[0]))}: the model's output is not finite (for {wrong.size} of "
      f"{len(result)} texts), so there is no score; load the model again, and if this "
      "does not help, train or export it again"
    )


def _pack(tokens: Tokens, lengths: Sequence[int]) -> dict[int, list[list[int]]]:
  """Maps each row length to its rows; a row lists text indices in slot order."""
  rows: dict[int, list[list[int]]] = {length: [] for length in lengths}
  for begin in range(0, len(tokens.lengths), PLANNED_TEXTS):
    plan = pack.plan_rows(tokens.lengths[begin : begin + PLANNED_TEXTS], lengths)
    for g, length in enumerate(lengths):
      new_rows: list[list[int]] = [[] for _ in range(plan.rows[g])]
      members = np.flatnonzero(plan.group == g)
      for i in members[np.argsort(plan.slot[members], kind="stable")]:
        new_rows[plan.row[i]].append(begin + int(i))
      rows[length] += new_rows
  return rows


def _fill(
  batch: Sequence[Sequence[int]], tokens: Tokens, length: int, shards: int, count: int
) -> Texts:
  """Lays out `count` rows per shard. All slots get logits, even if they are empty."""
  rows = pack.empty_rows(shards, count, length)
  for r, texts in enumerate(batch):
    begin = 0
    for slot, i in enumerate(texts):
      ids, prompt = tokens.text(i)
      pack.write_text(rows, (*divmod(r, count), slot), begin, ids, prompt)
      begin += len(ids)
  where = np.tile(np.arange(rows.first[0].size, dtype=np.int32), (shards, 1))
  return Texts((rows,), where)
