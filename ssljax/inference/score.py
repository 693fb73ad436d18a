"""Logits of many texts: packed as densely as they go, in batches of one shape each."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from ssljax import sharding
from ssljax.batch import Texts
from ssljax.data.batches import pack
from ssljax.data.batches.tokenize import Tokens

TOKENS = 4096  # of a batch on one device
CHUNK = 512  # texts that are laid into rows together
SHORT = (128,)  # tokens of the shorter rows
SEVERAL = (64, 128, 256)  # where a compilation more is nothing to the work


def row_lengths(longest: int, shorter: Sequence[int] = SHORT) -> tuple[int, ...]:
  """Those that score texts of up to `longest` tokens with little work.

  Rows are filled from the whole set, so several lengths waste no more than one, and
  attention over a row costs the square of its length.
  """
  return (*(length for length in shorter if length < longest), longest)


def score(
  eval_step: Callable[[object, Texts], jax.Array],
  params: object,
  tokens: Tokens,
  row_lengths: Sequence[int],
  devices: sharding.Devices,
  fit: bool = False,
) -> np.ndarray:
  """f32 [n, C], in the order of the texts, on every process.

  Args:
    eval_step: compiled `step.make_eval_step`, its result replicated.
    row_lengths: ascending; a longer one is added where a text needs it.
    fit: a batch that is not full has as few rows as a power of two allows, for calls
      with few texts; else each length has one shape and is compiled once.
  """
  longest = int(tokens.lengths.max(initial=1))
  lengths = [*row_lengths]
  if longest > lengths[-1]:
    lengths.append(longest)  # exactly: an encoder may have no position beyond it
  running = []  # on the devices; fetched when all are on their way
  for length, rows in _packed(tokens, lengths).items():
    share = max(1, TOKENS // length)
    for begin in range(0, len(rows), share * devices.shards):
      part = rows[begin : begin + share * devices.shards]
      each = -(-len(part) // devices.shards)
      many = min(share, 1 << (each - 1).bit_length()) if fit else share
      texts = _fill(part, tokens, length, devices.shards, many)
      logits = eval_step(params, sharding.put_texts(texts, devices))
      running.append((part, pack.slots(length, True), logits))
  result = None
  for part, slots, logits in running:
    logits = np.asarray(logits)
    if result is None:
      result = np.zeros((len(tokens.lengths), logits.shape[-1]), np.float32)
    by_row = logits.reshape(-1, slots, logits.shape[-1])
    for r, texts in enumerate(part):
      result[texts] = by_row[r, : len(texts)]
  return result


def _packed(tokens: Tokens, lengths: Sequence[int]) -> dict[int, list[list[int]]]:
  """For each row length its rows, each a list of texts in the order of their slots."""
  rows: dict[int, list[list[int]]] = {length: [] for length in lengths}
  for begin in range(0, len(tokens.lengths), CHUNK):
    plan = pack.plan(tokens.lengths[begin : begin + CHUNK], lengths)
    for g, length in enumerate(lengths):
      some: list[list[int]] = [[] for _ in range(plan.rows[g])]
      inside = np.flatnonzero(plan.group == g)
      for i in inside[np.argsort(plan.slot[inside], kind="stable")]:
        some[plan.row[i]].append(begin + int(i))
      rows[length] += some
  return rows


def _fill(
  part: Sequence[Sequence[int]], tokens: Tokens, length: int, shards: int, share: int
) -> Texts:
  """Texts whose n are all slots, in order; rows that are lacking stay empty."""
  rows = pack.empty(shards, share, length)
  for r, texts in enumerate(part):
    begin = 0
    for slot, i in enumerate(texts):
      ids, prompt = tokens.text(i)
      pack.write(rows, (*divmod(r, share), slot), begin, ids, prompt)
      begin += len(ids)
  where = np.tile(np.arange(rows.first[0].size, dtype=np.int32), (shards, 1))
  return Texts((rows,), where)
