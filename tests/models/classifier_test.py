"""The classifier: features and logits do not depend on the layout; its heads.

A single file, since its tests share compiled programs.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.data.batches import pack
from ssljax.method import Head
from ssljax.models import Encoder, EncoderConfig, load_params, read_config
from ssljax.models.classifier import Classifier
from tests.models.small import CASES, SMALL

CLASSES, LONGEST = 3, 40
LIMIT = 1e-5  # max |difference| of features and logits, float32
# Programs run once, and compile in a third of the time this way.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
CONFIGS = {name: EncoderConfig(**SMALL | CASES[name]) for name in ("bert", "v3")}
VOTERS = {"voters": Head("classifier", 2)}
EXTRA_HEADS = {
  "unit": Head("projection"),
  "short": Head("projection", width=5),
  "line": Head("linear", width=7),
  "logits": Head("linear"),
}

# Every pair of options, since each compilation takes seconds.
variants = pytest.mark.parametrize(
  ("name", "head", "voters"),
  [
    ("bert", "mlp", False),
    ("bert", "hf", True),
    ("v3", "mlp", True),
    ("v3", "hf", False),
  ],
)
heads = pytest.mark.parametrize(("name", "head"), [("bert", "mlp"), ("v3", "hf")])


def random_texts(seed: int, lengths):
  """Texts of the given lengths: (token ids, number of prompt tokens)."""
  random = np.random.default_rng(seed)
  return [
    (random.integers(5, 50, n).astype(np.int32), int(random.integers(1, n + 1)))
    for n in lengths
  ]


def lay_out(texts, row_lengths, packed=True, shards=1, more=0):
  """Lays texts into rows, with `more` empty rows of each length."""
  by_shard = [
    texts[s * len(texts) // shards :][: len(texts) // shards] for s in range(shards)
  ]
  plans = [
    pack.plan_rows(np.array([len(ids) for ids, _ in shard]), row_lengths, packed)
    for shard in by_shard
  ]
  rows = np.max([plan.rows for plan in plans], axis=0) + more
  shape = tuple(zip(row_lengths, map(int, rows), strict=True))
  return pack.fill_rows(plans, by_shard, shape, packed)


def padded(texts, length=LONGEST):
  return lay_out(texts, (length,), packed=False)


def random_params(model):
  """Random parameters: initial ones have many zeros and ones."""
  random = np.random.default_rng(0)

  def draw(path, leaf):
    mean = 1 if path[-1].key == "scale" else 0
    return mean + 0.2 * random.standard_normal(leaf.shape, np.float32)

  shapes = jax.eval_shape(model.init, jax.random.key(0), (padded(FIRST),))["params"]
  return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def make(name, head="mlp", voters=False):
  """(model, params, run): `run(*views)` is compiled once per layout."""
  heads = VOTERS if voters else {}
  model = Classifier(Encoder(CONFIGS[name]), CLASSES, head, heads)
  params = random_params(model)
  apply = jit(lambda views: model.apply({"params": params}, views))
  return model, params, lambda *views: apply(views)


FIRST = random_texts(1, (3, 11, 40, 8, 16, 2, 25, 5))
SECOND = random_texts(2, (2, 25, 3, 5, 11, 40, 16, 8))  # same shapes, different texts


def assert_close(a, b):
  """Compares two Outputs, or arrays of them."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.shape == y.shape
    assert np.abs(np.asarray(x) - np.asarray(y)).max() < LIMIT


@pytest.mark.slow
@variants
def test_packed_rows_of_two_lengths_equal_padded_rows(name, head, voters):
  run = make(name, head, voters)[2]
  packed = lay_out(FIRST, (16, LONGEST))
  # Rows of both lengths hold several texts.
  assert all((rows.segment.max(-1) > 1).any() for rows in packed.rows)
  outputs = run(packed)
  assert_close(outputs, run(padded(FIRST)))
  assert outputs.logits.shape == (8, CLASSES)
  assert outputs.features.shape == (8, SMALL["hidden_size"])
  assert np.ptp(np.asarray(outputs.logits), axis=0).min() > 0.1  # the texts differ


@pytest.mark.slow
@heads
def test_several_views_in_one_pass_equal_single_passes(name, head):
  run = make(name, head)[2]
  views = [
    lay_out(FIRST, (16, LONGEST)),
    lay_out(SECOND[:5], (LONGEST,)),  # rows of one length only
    lay_out(SECOND, (16, LONGEST)),
  ]
  alone = [run(padded(texts)) for texts in (FIRST, SECOND, SECOND)]
  alone[1] = jax.tree.map(lambda a: a[:5], alone[1])
  assert_close(run(*views), jax.tree.map(lambda *a: jnp.concatenate(a), *alone))


@pytest.mark.slow
def test_shards_do_not_change_outputs():
  run = make("bert")[2]
  assert_close(run(lay_out(FIRST, (16, LONGEST), shards=2)), run(padded(FIRST)))


@pytest.mark.slow
@heads
def test_features_depend_on_their_text_only(name, head):
  """They depend neither on the content of padding nor on the neighbours in a row."""
  run = make(name, head)[2]
  packed = lay_out(FIRST, (16, LONGEST))
  assert all((rows.segment == 0).any() for rows in packed.rows)
  random = np.random.default_rng(3)

  def overwrite(rows, where):
    noise = random.integers(5, 50, rows.ids.shape).astype(np.int32)
    return rows._replace(
      ids=np.where(where(rows), noise, rows.ids),
      kind=np.where(where(rows), 1, rows.kind).astype(np.int32),
    )

  def features(where):
    rows = tuple(overwrite(rows, where) for rows in packed.rows)
    return np.asarray(run(packed._replace(rows=rows)).features)

  plain = np.asarray(run(packed).features)
  np.testing.assert_array_equal(plain, features(lambda rows: rows.segment == 0))
  # Changing the second text of each row does not change the others.
  changed = features(lambda rows: rows.segment == 2)
  slots = [rows.first.shape[-1] for rows in packed.rows]
  sizes = [rows.first.size for rows in packed.rows]
  where = packed.where[0]
  second = np.where(where < sizes[0], where, where - sizes[0]) % np.where(
    where < sizes[0], *slots
  )
  assert 0 < (second == 1).sum() < len(FIRST)
  assert np.abs(plain - changed)[second == 1].max(axis=-1).min() > 1e-3
  np.testing.assert_array_equal(plain[second != 1], changed[second != 1])


def by_text(texts):
  """Ids, mask and token types of the texts in their order, i32 [n, LONGEST]."""
  (rows,), where = padded(texts)
  return tuple(a[0][where[0]] for a in rows[:3])


@pytest.mark.slow
def test_the_mlp_head_is_masked_mean_dense_gelu_dense():
  model, params, run = make("bert")
  outputs = run(lay_out(FIRST, (16, LONGEST)))
  encode = jit(lambda *text: model.encoder.apply({"params": params["encoder"]}, *text))
  hidden = np.asarray(encode(*by_text(FIRST)))
  for i, (text, _) in enumerate(FIRST):
    mean = hidden[i, : len(text)].mean(0)  # including [CLS] and [SEP]
    dense = mean @ params["dense"]["kernel"] + params["dense"]["bias"]
    activated = np.array([x * (1 + math.erf(x * 0.5**0.5)) / 2 for x in dense])
    logits = activated @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    assert np.abs(outputs.features[i] - mean).max() < LIMIT
    assert np.abs(outputs.logits[i] - logits).max() < LIMIT


@pytest.mark.parametrize("case", CONFIGS)
def test_the_hf_head_equals_that_of_transformers(case, tmp_path):
  torch = pytest.importorskip("torch")
  from .parity_test import torch_inputs, torch_model

  # Not the activation of BERT's pooler, so that the config matters.
  more = {"pooler_hidden_act": "gelu"} if case == "v3" else {}
  theirs = torch_model(CASES[case], head=True, num_labels=CLASSES, **more)
  theirs.save_pretrained(tmp_path)
  config = read_config(tmp_path)
  params, _ = load_params(tmp_path, config, with_head=True)
  model = Classifier(Encoder(config), CLASSES, "hf")
  assert jax.tree.structure(params) == jax.tree.structure(random_params(model))
  apply = jit(lambda params, *views: model.apply({"params": params}, views))
  with torch.no_grad():
    expected = theirs(**torch_inputs(*by_text(FIRST))).logits.numpy()
  assert np.ptp(expected, axis=0).min() > 0.1
  logits = apply(params, padded(FIRST)).logits
  assert np.abs(logits - expected).max() < 1e-4  # the limit of parity_test.py


@pytest.mark.parametrize("head", ["mlp", "hf"])
def test_voters_are_parallel_classifiers_and_logits_their_mean(head):
  model, params, run = make("bert" if head == "hf" else "v3", head, True)
  outputs = run(padded(FIRST))
  votes = np.asarray(outputs.heads["voters"])  # [n, H, C]
  assert votes.shape == (len(FIRST), 2, CLASSES)
  np.testing.assert_allclose(outputs.logits, votes.mean(1), rtol=1e-6, atol=1e-7)
  single = model.clone(heads={})
  shared = ("encoder", "pooler")  # with head "hf", voters share all but the last layer
  for h in range(2):
    voter = {
      k: v if k in shared else jax.tree.map(lambda a, h=h: a[h], v)
      for k, v in params.items()
    }
    alone = single.apply({"params": voter}, outputs.features, method="classify")
    assert not alone.heads
    assert_close(votes[:, h], np.asarray(alone.logits))
  assert np.abs(votes[:, 0] - votes[:, 1]).min() > 1e-4


@functools.cache
def with_extra_heads():
  """(model, params, features, outputs) of a model with heads beside the classifier."""
  model = Classifier(Encoder(CONFIGS["bert"]), CLASSES, "mlp", EXTRA_HEADS)
  params = random_params(model)
  features = np.random.default_rng(4).standard_normal((6, 24), np.float32)
  outputs = model.apply({"params": params}, features, method="classify")
  return model, params, features, outputs


@pytest.mark.slow
def test_a_projection_has_unit_length_and_its_width():
  _, params, features, outputs = with_extra_heads()
  for name, width in {"unit": 24, "short": 5}.items():
    assert outputs.heads[name].shape == (6, width)
    np.testing.assert_allclose(
      np.linalg.norm(outputs.heads[name], axis=-1), 1, rtol=1e-6
    )
  last, first = (params["beside_short"][f"Dense_{i}"] for i in range(2))
  hidden = np.maximum(features @ first["kernel"] + first["bias"], 0)
  expected = hidden @ last["kernel"] + last["bias"]
  expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
  assert np.abs(outputs.heads["short"] - expected).max() < LIMIT


@pytest.mark.slow
def test_a_projection_of_zeros_is_finite():
  model, params, features, _ = with_extra_heads()
  zeros = jax.tree.map(np.zeros_like, params)
  outputs = model.apply({"params": zeros}, features, method="classify")
  np.testing.assert_array_equal(outputs.heads["unit"], 0)

  def total(params):
    outputs = model.apply({"params": params}, features, method="classify")
    return outputs.heads["unit"].sum()

  assert all(
    np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(total)(zeros))
  )


def test_a_linear_head_has_its_width_or_the_number_of_classes():
  _, params, features, outputs = with_extra_heads()
  for name, width in {"line": 7, "logits": CLASSES}.items():
    head = params[f"beside_{name}"]
    assert outputs.heads[name].shape == (6, width)
    expected = features @ head["kernel"] + head["bias"]
    assert np.abs(outputs.heads[name] - expected).max() < LIMIT


def test_extra_heads_do_not_change_the_classifier():
  _, params, features, outputs = with_extra_heads()
  assert set(outputs.heads) == set(EXTRA_HEADS)
  shared = {name: params[name] for name in ("encoder", "dense", "classifier")}
  alone = make("bert")[0].apply({"params": shared}, features, method="classify")
  np.testing.assert_array_equal(outputs.logits, alone.logits)
  np.testing.assert_array_equal(outputs.features, features)


def test_two_heads_of_voters_are_an_error():
  two = {"some": Head("classifier", 2), "more": Head("classifier", 3)}
  model = Classifier(Encoder(CONFIGS["bert"]), CLASSES, "mlp", two)
  with pytest.raises(ValueError, match="'some', 'more'"):
    jax.eval_shape(model.init, jax.random.key(0), (padded(FIRST),))


DRAWS, RATE = 400, 0.3


@functools.cache
def dropped(name, head):
  """Outputs without dropout, and with many keys; the encoder has no dropout."""
  params = make(name, head)[1]
  model = Classifier(Encoder(CONFIGS[name], dropout=0.0), CLASSES, head, {}, RATE)
  texts = padded(FIRST)

  def draw(key):
    return model.apply({"params": params}, (texts,), False, rngs={"dropout": key})

  keys = jax.random.split(jax.random.key(0, impl="threefry2x32"), DRAWS)
  drawn = jit(lambda keys: jax.lax.map(draw, keys))(keys)
  return make(name, head)[2](texts), jax.tree.map(np.asarray, drawn)


CASES_OF_DROPOUT = [("bert", "mlp"), ("bert", "hf"), ("v3", "hf")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "head"), CASES_OF_DROPOUT)
def test_dropout_before_the_classifier_keeps_the_mean(name, head):
  plain, drawn = dropped(name, head)
  rate = round(RATE * 256) / 256
  share = (drawn.features == 0).mean()
  assert abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / drawn.features.size)
  error = drawn.features.std(0) / np.sqrt(DRAWS)
  away = np.abs(drawn.features.mean(0) - plain.features) / (error + 1e-6)
  if name == "v3":
    # DeBERTa also drops before its non-linear pooler: the mean is only close.
    assert np.median(away) < 5
  else:
    assert away.max() < 5
  scaled = plain.features / (1 - rate)
  expected = np.isclose(drawn.features, scaled, rtol=1e-4, atol=1e-5)
  expected |= drawn.features == 0
  assert expected.all() == (name != "v3")


@pytest.mark.parametrize(("name", "head"), CASES_OF_DROPOUT)
def test_training_passes_differ_by_key(name, head):
  _, drawn = dropped(name, head)
  assert len(np.unique(drawn.logits[:, 0, 0])) > DRAWS / 2


def test_evaluation_has_no_dropout_and_needs_no_key():
  model, params, run = make("bert")
  assert model.rate > 0
  texts = padded(FIRST)
  without = model.clone(rate=0.0, encoder=model.encoder.clone(dropout=0.0))
  outputs = jit(lambda p, t: without.apply({"params": p}, (t,), False))(params, texts)
  assert_close(run(texts), outputs)
