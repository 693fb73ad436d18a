"""Scoring many texts: each gets the logits that it would get alone."""

import functools

import jax
import numpy as np
import pytest

from ssljax import methods, sharding
from ssljax.data.batches import pack, tokenize
from ssljax.inference import score as scoring
from ssljax.models import Encoder
from ssljax.models.classifier import Classifier
from ssljax.models.config import from_json
from ssljax.training import step
from tests import tiny

CLASSES, LIMIT = 3, 1e-5


@functools.cache
def made():
  """A model whose logits tell texts apart, its parameters, its method."""
  model = Classifier(Encoder(from_json(tiny.CONFIG, "tiny")), CLASSES)
  tokens = written(0, [4])
  shapes = jax.eval_shape(model.init, jax.random.key(0), (laid(tokens),))["params"]
  random = np.random.default_rng(0)
  draw = lambda leaf: 0.5 * random.standard_normal(leaf.shape, np.float32)
  return model, jax.tree.map(draw, shapes), methods.make({"name": "fixmatch"})


def written(seed: int, lengths) -> tokenize.Tokens:
  """Random texts of the given lengths; of most the end is a response."""
  random = np.random.default_rng(seed)
  lengths = np.asarray(lengths)
  return tokenize.Tokens(
    random.integers(5, tiny.VOCABULARY, lengths.sum()).astype(np.int32),
    np.concatenate([[0], lengths.cumsum()]),
    random.integers(1, lengths + 1).astype(np.int32),
    np.zeros(len(lengths), bool),
  )


def reordered(tokens: tokenize.Tokens, order) -> tokenize.Tokens:
  parts = [tokens.text(i) for i in order]
  offset = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in parts])])
  return tokenize.Tokens(
    np.concatenate([ids for ids, _ in parts]),
    offset,
    np.array([prompt for _, prompt in parts], np.int32),
    tokens.truncated[list(order)],
  )


def laid(tokens: tokenize.Tokens, length: int = 48) -> pack.Texts:
  """Each text in a row of its own."""
  plan = pack.plan(tokens.lengths, (length,), packed=False)
  texts = [tokens.text(i) for i in range(len(tokens.lengths))]
  return pack.lay([plan], [texts], pack.Shape(((length, len(texts)),)), False)


@functools.cache
def evaluators(count: int):
  """The devices, and the compiled step on them."""
  model, _, method = made()
  devices = sharding.make_devices("jit", 1, jax.devices()[:count])
  # Compiled in a third of the time, and run once.
  options = {"xla_backend_optimization_level": 0}
  apply = jax.jit(
    step.make_eval_step(model=model, method=method),
    out_shardings=devices.replicated,
    compiler_options=options,
  )
  return devices, apply


def score(tokens, row_lengths, count: int = 1) -> np.ndarray:
  devices, apply = evaluators(count)
  params = sharding.put(
    made()[1], jax.tree.map(lambda a: devices.replicated, made()[1])
  )
  return scoring.score(apply, params, tokens, row_lengths, devices)


LENGTHS = np.random.default_rng(1).integers(1, 33, 60)
LENGTHS[[7, 41]] = 32, 16


@pytest.fixture(scope="module")
def texts():
  return written(2, LENGTHS)


@pytest.fixture(scope="module")
def alone(texts):
  """Logits of each text in a row of its own, f32 [n, C]."""
  _, apply = evaluators(1)
  logits = np.asarray(apply(made()[1], laid(texts)))
  assert np.abs(logits[:, None] - logits[None]).max(-1)[
    ~np.eye(60, dtype=bool)
  ].min() > (10 * LIMIT)  # no two texts could be mistaken for each other
  return logits


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
  """Several batches, the last of them not full, and several chunks."""
  monkeypatch.setattr(scoring, "TOKENS", 96)
  monkeypatch.setattr(scoring, "CHUNK", 25)


def assert_alike(found, wanted):
  assert found.dtype == np.float32
  assert found.shape == wanted.shape
  assert np.abs(found - wanted).max() < LIMIT


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("row_lengths", [(32,), (16, 32)], ids=str)
def test_a_text_among_many_has_the_logits_it_has_alone(
  row_lengths, count, texts, alone
):
  assert_alike(score(texts, row_lengths, count), alone)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_texts_is_that_of_the_logits(seed, texts, alone):
  order = np.random.default_rng(seed).permutation(len(LENGTHS))
  assert_alike(score(reordered(texts, order), (16, 32)), alone[order])


@pytest.mark.parametrize("count", [1, 8])
def test_a_text_longer_than_every_row_has_a_row_that_holds_it(count, texts, alone):
  # The longest of these has 32 tokens, so that a row of 32 is added.
  assert_alike(score(texts, (16,), count), alone)
  # A row of 45 tokens is added for a text of 45: there may be no position for more.
  few = reordered(texts, range(3))
  longer = written(3, [45])
  together = tokenize.Tokens(
    np.concatenate([few.ids, longer.ids]),
    np.concatenate([few.offset, few.offset[-1:] + longer.offset[1:]]),
    np.concatenate([few.prompt, longer.prompt]),
    np.zeros(4, bool),
  )
  _, apply = evaluators(1)
  wanted = np.concatenate([alone[:3], np.asarray(apply(made()[1], laid(longer)))])
  assert_alike(score(together, (16, 32), count), wanted)


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("which", [7, 41, 0])
def test_one_text_fewer_than_the_devices(which, count, texts, alone):
  assert_alike(score(reordered(texts, [which]), (16, 32), count), alone[[which]])


@pytest.mark.parametrize("row_lengths", [(8,), (32,)], ids=str)
def test_texts_shorter_than_a_slot_are_many_to_a_row(row_lengths, texts, alone):
  short = np.flatnonzero(LENGTHS <= 8)
  assert len(short) > 5
  again = np.concatenate([short] * 4)  # slots run out before tokens
  assert_alike(score(reordered(texts, again), row_lengths), alone[again])


def test_batches_of_one_row_length_have_one_shape(texts):
  seen = []
  devices, apply = evaluators(1)

  def watched(params, some):
    seen.append(tuple(rows.ids.shape for rows in some.rows))
    return apply(params, some)

  scoring.score(watched, made()[1], texts, (16, 32), devices)
  # As many rows as fill TOKENS; a batch that lacks some has empty ones.
  assert set(seen) == {((1, 6, 16),), ((1, 3, 32),)}
  assert len(seen) > 4


def test_rows_are_filled_densely(texts):
  rows = scoring._packed(texts, [16, 32])
  cells = sum(length * len(some) for length, some in rows.items())
  assert LENGTHS.sum() / cells > 0.75
  assert sorted(i for some in rows.values() for row in some for i in row) == list(
    range(len(LENGTHS))
  )


def test_a_virtual_class_is_no_class_of_the_logits(texts, alone):
  """What is scored is what the method predicts."""
  model, params, method = made()
  devices, _ = evaluators(1)
  predict = lambda outputs: outputs.logits[:, ::-1][:, :2]
  apply = jax.jit(
    step.make_eval_step(model=model, method=method._replace(predict=predict))
  )
  found = scoring.score(apply, params, reordered(texts, range(9)), (32,), devices)
  assert_alike(found, alone[:9, ::-1][:, :2])


@pytest.mark.parametrize("count", [1, 8])
def test_few_texts_get_few_rows_where_that_is_asked_for(count, texts, alone):
  seen = set()
  devices, apply = evaluators(count)

  def watched(params, some):
    seen.update(rows.ids.shape for rows in some.rows)
    return apply(params, some)

  params = sharding.put(
    made()[1], jax.tree.map(lambda a: devices.replicated, made()[1])
  )
  fit = lambda some: scoring.score(watched, params, some, (32,), devices, fit=True)
  assert_alike(fit(reordered(texts, [7])), alone[[7]])  # of 32 tokens
  assert seen == {(count, 1, 32)}
  assert_alike(fit(texts), alone)
  # A full batch has TOKENS / 32 = 3 rows a device; others a power of two.
  assert {shape[1] for shape in seen} <= {1, 2, 3}
