"""A smooth model of packed texts for VAT's tests, in JAX and in NumPy.

The NumPy version gives derivatives by central differences.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ssljax.data.batches import pack
from ssljax.method import Outputs

ROWS = (16, 24)  # tokens of a row: up to 2 and 3 texts
VOCABULARY, E, D = 90, 3, 4


def lay_out(ids, packed=True, row_lengths=ROWS):
  """Lays out texts with these token ids in one shard."""
  ids = [np.asarray(one, np.int32) for one in ids]
  row_lengths = row_lengths if packed else ROWS[-1:]
  plan = pack.plan_rows(np.array([len(one) for one in ids]), row_lengths, packed)
  groups = zip(row_lengths, plan.rows, strict=True)
  shape = tuple((length, rows) for length, rows in groups if rows)
  return pack.fill_rows([plan], [[(one, len(one)) for one in ids]], shape, packed)


def text_of(texts, i, values):
  """The part of `values`, [S, R, L, ...] for each row length, for text i's tokens."""
  slot = int(texts.where[0, i])
  for rows, value in zip(texts.rows, values, strict=True):
    count, slots = rows.first.shape[1:]
    if slot < count * slots:
      row, place = divmod(slot, slots)
      return np.asarray(value)[0, row][np.asarray(rows.segment)[0, row] == place + 1]
    slot -= count * slots
  raise IndexError(i)


def words(texts):
  """The word embeddings, for each row length."""
  return [rows.embedding for rows in texts.rows]


class Recorder:
  """Records the texts that a forward gets; the perturbed ones come last."""

  def __init__(self):
    self.inputs = []

  def change(self, clean):
    """What was added to the word embeddings, for each row length."""
    pairs = zip(words(self.inputs[-1]), words(clean), strict=True)
    return [a - b for a, b in pairs]


class Smooth(Recorder):
  """logits = tanh(mean over a text's tokens of tanh(e W)) V."""

  def __init__(self, params):
    super().__init__()
    self.params = params

  def embed(self, texts):
    table = self.params["table"]
    rows = tuple(rows._replace(embedding=table[rows.ids]) for rows in texts.rows)
    return texts._replace(rows=rows)

  def __call__(self, texts, *, key, teacher=False, gradient=True):
    self.inputs.append(texts)
    filled = texts if texts.rows[0].embedding is not None else self.embed(texts)
    params = self.params if gradient else jax.lax.stop_gradient(self.params)
    by_length = []
    for rows in filled.rows:
      slots = jnp.arange(1, rows.first.shape[-1] + 1)
      of_text = jnp.asarray(rows.segment[..., None] == slots, jnp.float32)
      hidden = jnp.tanh(rows.embedding @ params["inner"])
      mean = jnp.einsum("srlm,srld->srmd", of_text, hidden)
      mean = mean / jnp.maximum(of_text.sum(-2), 1)[..., None]
      by_length.append(jnp.tanh(mean).reshape(-1, D))
    flat = jnp.concatenate(by_length)
    features = flat[filled.where.reshape(-1)]
    return Outputs(features @ params["outer"], features, {})


def logits_of_text(params, embedding):
  """The same for the embeddings of one text, in NumPy."""
  hidden = [np.tanh(one @ params["inner"]) for one in embedding]
  return np.tanh(sum(hidden) / len(hidden)) @ params["outer"]


def parameters(random, classes, size=1.0):
  shapes = {"table": (VOCABULARY, E), "inner": (E, D), "outer": (D, classes)}
  drawn = {name: random.normal(size=shape) for name, shape in shapes.items()}
  return drawn | {"table": drawn["table"] * size}
