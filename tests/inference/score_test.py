"""Scores many texts: each gets the logits that it would get alone."""

import functools

import jax
import numpy as np
import pytest

from ssljax import methods, sharding
from ssljax.batch import Texts
from ssljax.data.batches import pack, tokenize
from ssljax.errors import RunError
from ssljax.inference import score as score_module
from ssljax.models import Encoder
from ssljax.models.classifier import Classifier
from ssljax.testing import tiny
from ssljax.training import step

CLASSES, TOLERANCE = 3, 1e-5


@functools.cache
def make_model():
  """A model with different logits for every text, its parameters, its method."""
  model = Classifier(Encoder(tiny.CONFIG), CLASSES)
  texts = one_per_row(random_tokens(0, [4]))
  shapes = jax.eval_shape(model.init, jax.random.key(0), (texts,))["params"]
  rng = np.random.default_rng(0)
  draw = lambda leaf: 0.5 * rng.standard_normal(leaf.shape, np.float32)
  return model, jax.tree.map(draw, shapes), methods.make({"name": "fixmatch"})


def random_tokens(seed: int, lengths) -> tokenize.Tokens:
  """Random texts of the given lengths; most end with a response."""
  rng = np.random.default_rng(seed)
  lengths = np.asarray(lengths)
  return tokenize.Tokens(
    rng.integers(5, tiny.VOCABULARY, lengths.sum()).astype(np.int32),
    np.concatenate([[0], lengths.cumsum()]),
    rng.integers(1, lengths + 1).astype(np.int32),
    np.zeros(len(lengths), bool),
  )


def reorder(tokens: tokenize.Tokens, order) -> tokenize.Tokens:
  texts = [tokens.text(i) for i in order]
  offset = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in texts])])
  return tokenize.Tokens(
    np.concatenate([ids for ids, _ in texts]),
    offset,
    np.array([prompt for _, prompt in texts], np.int32),
    tokens.truncated[list(order)],
  )


def one_per_row(tokens: tokenize.Tokens, length: int = 48) -> Texts:
  plan = pack.plan_rows(tokens.lengths, (length,), packed=False)
  texts = [tokens.text(i) for i in range(len(tokens.lengths))]
  return pack.fill_rows([plan], [texts], ((length, len(texts)),), False)


@functools.cache
def compiled(count: int):
  """`count` devices, the eval step compiled for them, and the parameters on them."""
  model, params, method = make_model()
  devices = sharding.make_devices("jit", 1, jax.devices()[:count])
  # Compiled in a third of the time, and run once.
  options = {"xla_backend_optimization_level": 0}
  eval_step = jax.jit(
    step.make_eval_step(model=model, method=method),
    out_shardings=devices.replicated,
    compiler_options=options,
  )
  placed = sharding.put(params, sharding.state_shardings(params, devices))
  return devices, eval_step, placed


def score(tokens, row_lengths, count: int = 1) -> np.ndarray:
  devices, eval_step, params = compiled(count)
  return score_module.score(eval_step, params, tokens, row_lengths, devices)


LENGTHS = np.random.default_rng(1).integers(1, 33, 60)
LENGTHS[[7, 41]] = 32, 16


@pytest.fixture(scope="module")
def texts():
  return random_tokens(2, LENGTHS)


@pytest.fixture(scope="module")
def alone(texts):
  """Logits of each text in its own row, f32 [n, C]."""
  _, eval_step, params = compiled(1)
  logits = np.asarray(eval_step(params, one_per_row(texts)))
  distance = np.abs(logits[:, None] - logits[None]).max(-1)
  assert distance[~np.eye(60, dtype=bool)].min() > 10 * TOLERANCE  # all distinguishable
  return logits


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
  """Several batches, the last one not full, and several plans."""
  monkeypatch.setattr(score_module, "BATCH_TOKENS", 96)
  monkeypatch.setattr(score_module, "PLANNED_TEXTS", 25)


def assert_close(logits, expected):
  assert logits.dtype == np.float32
  assert logits.shape == expected.shape
  assert np.abs(logits - expected).max() < TOLERANCE


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("row_lengths", [(32,), (16, 32)], ids=str)
def test_a_text_has_the_same_logits_in_a_batch_as_alone(
  row_lengths, count, texts, alone
):
  assert_close(score(texts, row_lengths, count), alone)


def test_logits_are_in_the_order_of_the_texts(texts, alone):
  order = np.random.default_rng(0).permutation(len(LENGTHS))
  assert_close(score(reorder(texts, order), (16, 32)), alone[order])


@pytest.mark.parametrize("count", [1, 8])
def test_a_row_length_is_added_for_a_text_longer_than_all(count, texts, alone):
  # The longest of these has 32 tokens, so rows of 32 are added.
  assert_close(score(texts, (16,), count), alone)
  # For a text of 45 tokens, rows of exactly 45: the encoder may have no more positions.
  short, long = reorder(texts, range(3)), random_tokens(3, [45])
  together = tokenize.Tokens(
    np.concatenate([short.ids, long.ids]),
    np.concatenate([short.offset, short.offset[-1:] + long.offset[1:]]),
    np.concatenate([short.prompt, long.prompt]),
    np.zeros(4, bool),
  )
  _, eval_step, params = compiled(1)
  logits_of_long = np.asarray(eval_step(params, one_per_row(long)))
  expected = np.concatenate([alone[:3], logits_of_long])
  assert_close(score(together, (16, 32), count), expected)


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("index", [7, 41, 0])
def test_a_single_text_is_scored_on_any_number_of_devices(index, count, texts, alone):
  assert_close(score(reorder(texts, [index]), (16, 32), count), alone[[index]])


@pytest.mark.parametrize("row_lengths", [(8,), (32,)], ids=str)
def test_many_texts_shorter_than_a_slot(row_lengths, texts, alone):
  short = np.flatnonzero(LENGTHS <= 8)
  assert len(short) > 5
  repeated = np.concatenate([short] * 4)  # slots run out before tokens
  assert_close(score(reorder(texts, repeated), row_lengths), alone[repeated])


def record_shapes(shapes, eval_step):
  """`eval_step` that also appends the shapes of each batch to `shapes`."""

  def recording(params, batch):
    shapes.append(tuple(rows.ids.shape for rows in batch.rows))
    return eval_step(params, batch)

  return recording


def test_batches_of_one_row_length_have_one_shape(texts):
  shapes = []
  devices, eval_step, params = compiled(1)
  recording = record_shapes(shapes, eval_step)
  score_module.score(recording, params, texts, (16, 32), devices)
  # BATCH_TOKENS / length rows; the last batch is filled up with empty ones.
  assert set(shapes) == {((1, 6, 16),), ((1, 3, 32),)}
  assert len(shapes) > 4


def test_rows_are_filled_densely(texts):
  rows = score_module._pack(texts, [16, 32])
  cells = sum(length * len(group) for length, group in rows.items())
  assert LENGTHS.sum() / cells > 0.75
  packed = [i for group in rows.values() for row in group for i in row]
  assert sorted(packed) == list(range(len(LENGTHS)))


def test_scores_what_the_method_predicts(texts, alone):
  """For example without the virtual class."""
  model, params, method = make_model()
  method = method._replace(predict=lambda outputs: outputs.logits[:, ::-1][:, :2])
  eval_step = step.make_eval_step(model=model, method=method)
  scorer = score_module.make_scorer(eval_step, params, (32,))
  assert_close(scorer(reorder(texts, range(9))), alone[:9, ::-1][:, :2])


@pytest.mark.parametrize("count", [1, 8])
def test_logits_that_are_not_finite_raise(count, texts):
  devices, eval_step, params = compiled(count)
  params = jax.tree.map(lambda leaf: leaf * np.nan, params)
  with pytest.raises(RunError, match=r"^text 0: .* not finite \(for 60 of 60 texts\)"):
    score_module.score(eval_step, params, texts, (32,), devices)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 8])
def test_fit_gives_few_texts_few_rows(count, texts, alone):
  shapes = []
  devices, eval_step, params = compiled(count)
  recording = record_shapes(shapes, eval_step)
  fit = lambda tokens: score_module.score(
    recording, params, tokens, (32,), devices, fit=True
  )
  assert_close(fit(reorder(texts, [7])), alone[[7]])  # of 32 tokens
  assert shapes == [((count, 1, 32),)]
  assert_close(fit(texts), alone)
  # A full batch has BATCH_TOKENS / 32 = 3 rows per device, others a power of two.
  assert {rows for ((_, rows, _),) in shapes} <= {1, 2, 3}
