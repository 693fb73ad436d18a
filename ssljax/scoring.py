"""Logits of many texts: packed as densely as they go, in batches of one shape each."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from ssljax import sharding
from ssljax.data import pack
from ssljax.data.pack import Rows, Texts
from ssljax.data.tokenize import Tokens

TOKENS = 4096  # of a batch on one device
CHUNK = 512  # texts that are laid into rows together


def score(
  eval_step: Callable[[object, Texts], jax.Array],
  params: object,
  tokens: Tokens,
  row_lengths: Sequence[int],
  devices: sharding.Devices,
) -> np.ndarray:
  """f32 [n, C], in the order of the texts, on every process.

  Args:
    eval_step: compiled `step.make_eval_step`, its result replicated.
    row_lengths: those of the training; a longer one is added where a text needs it.
  """
  longest = int(tokens.lengths.max(initial=1))
  lengths = [*row_lengths]
  if longest > lengths[-1]:
    lengths.append(-(-longest // 8) * 8)
  running = []  # on the devices; fetched when all are on their way
  for length, rows in _packed(tokens, lengths).items():
    share = max(1, TOKENS // length)
    for begin in range(0, len(rows), share * devices.shards):
      part = rows[begin : begin + share * devices.shards]
      texts = _fill(part, tokens, length, devices.shards, share)
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
  slots = pack.slots(length, True)
  ids, segment, kind = (np.zeros((shards * share, length), np.int32) for _ in range(3))
  first = np.zeros((shards * share, slots), np.int32)
  for r, texts in enumerate(part):
    begin = 0
    for k, i in enumerate(texts):
      own, prompt = tokens.text(i)
      end = begin + len(own)
      ids[r, begin:end], segment[r, begin:end] = own, k + 1
      kind[r, begin + prompt : end] = 1
      first[r, k] = begin
      begin = end
  rows = Rows(*(a.reshape(shards, share, -1) for a in (ids, segment, kind, first)))
  where = np.tile(np.arange(share * slots, dtype=np.int32), (shards, 1))
  return Texts((rows,), where)
