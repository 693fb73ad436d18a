"""Computes the logits of many texts, packed densely into rows of a few lengths."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

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

EvalStep = Callable[[Any, Texts], jax.Array]


def make_scorer(
  eval_step: EvalStep, params: Any, row_lengths: Sequence[int], fit: bool = False
) -> Callable[..., np.ndarray]:
  """Puts a model on all devices; returns a function from tokens to logits.

  The function is `score`, and takes its argument `name` as well.
  """
  devices = sharding.make_devices()
  return partial(
    score,
    jax.jit(eval_step, out_shardings=devices.replicated),
    sharding.put(params, sharding.state_shardings(params, devices)),
    row_lengths=row_lengths,
    devices=devices,
    fit=fit,
  )


def with_step(scorer: Callable[..., np.ndarray], eval_step: EvalStep):
  """A scorer with the same parameters, on the same devices, that runs another step.

  Args:
    scorer: what `make_scorer` returned.
    eval_step: returns f32 [n, K], for any K; the new scorer's result has this shape.
  """
  assert isinstance(scorer, partial)
  shardings = scorer.keywords["devices"].replicated
  step = jax.jit(eval_step, out_shardings=shardings)
  return partial(score, step, *scorer.args[1:], **scorer.keywords)


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
      power of two. Use this option for calls with few texts. By default, each row
      length has a single batch shape and is compiled once.
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
    for begin in range(0, len(rows), most * devices.shards):
      batch = rows[begin : begin + most * devices.shards]
      needed = -(-len(batch) // devices.shards)
      count = min(most, 1 << (needed - 1).bit_length()) if fit else most
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
