"""The classifier: a text's features and logits are its own, however it is laid out."""

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
from ssljax.models.dropout import quantised
from tests.models.small import CASES, SMALL

CLASSES, LONGEST = 3, 40
LIMIT = 1e-5  # max |difference| of features and logits, float32
# Compiled in a third of the time, and run once.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
CONFIGS = {name: EncoderConfig(**SMALL | CASES[name]) for name in ("bert", "v3")}
VOTERS = {"voters": Head("classifier", 2)}
BESIDE = {
  "unit": Head("projection"),
  "short": Head("projection", width=5),
  "line": Head("linear", width=7),
  "logits": Head("linear"),
}

# Each pair of choices once: a compilation takes seconds.
each = pytest.mark.parametrize(
  ("name", "head", "voters"),
  [
    ("bert", "mlp", False),
    ("bert", "hf", True),
    ("v3", "mlp", True),
    ("v3", "hf", False),
  ],
)
heads = pytest.mark.parametrize(("name", "head"), [("bert", "mlp"), ("v3", "hf")])


def written(seed: int, lengths):
  """Texts of the given lengths: token ids, and how many of them are the prompt's."""
  random = np.random.default_rng(seed)
  return [
    (random.integers(5, 50, n).astype(np.int32), int(random.integers(1, n + 1)))
    for n in lengths
  ]


def laid(texts, row_lengths, packed=True, shards=1, more=0):
  """The texts in rows, with `more` empty ones of each length."""
  parts = [
    texts[s * len(texts) // shards :][: len(texts) // shards] for s in range(shards)
  ]
  plans = [
    pack.plan(np.array([len(ids) for ids, _ in part]), row_lengths, packed)
    for part in parts
  ]
  rows = np.max([plan.rows for plan in plans], axis=0) + more
  shape = pack.Shape(tuple(zip(row_lengths, map(int, rows), strict=True)))
  return pack.lay(plans, parts, shape, packed)


def padded(texts, length=LONGEST):
  return laid(texts, (length,), packed=False)


def parameters(model):
  """Random parameters, none of them 0 or 1 as a fresh one's would be."""
  random = np.random.default_rng(0)

  def draw(path, leaf):
    around = 1 if path[-1].key == "scale" else 0
    return around + 0.2 * random.standard_normal(leaf.shape, np.float32)

  shapes = jax.eval_shape(model.init, jax.random.key(0), (padded(FIRST),))["params"]
  return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def made(name, head="mlp", voters=False):
  """A model, its parameters, and `run(*views)`, compiled once for each layout."""
  extra = VOTERS if voters else {}
  model = Classifier(Encoder(CONFIGS[name]), CLASSES, head, extra)
  params = parameters(model)
  apply = jit(lambda views: model.apply({"params": params}, views))
  return model, params, lambda *views: apply(views)


FIRST = written(1, (3, 11, 40, 8, 16, 2, 25, 5))
SECOND = written(2, (2, 25, 3, 5, 11, 40, 16, 8))  # the same shapes, other texts


def assert_alike(a, b):
  """Two Outputs, or parts of them."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.shape == y.shape
    assert np.abs(np.asarray(x) - np.asarray(y)).max() < LIMIT


@each
def test_packed_rows_of_two_lengths_equal_padded_ones(name, head, voters):
  run = made(name, head, voters)[2]
  packed = laid(FIRST, (16, LONGEST))
  # Both lengths are used, by rows that several texts share.
  assert all((rows.segment.max(-1) > 1).any() for rows in packed.rows)
  found, wanted = run(packed), run(padded(FIRST))
  assert_alike(found, wanted)
  assert found.logits.shape == (8, CLASSES)
  assert found.features.shape == (8, SMALL["hidden_size"])
  assert np.ptp(np.asarray(found.logits), axis=0).min() > 0.1  # texts do differ


@heads
def test_several_views_in_one_pass_equal_each_alone(name, head):
  run = made(name, head)[2]
  views = [
    laid(FIRST, (16, LONGEST)),
    laid(SECOND[:5], (LONGEST,)),  # has rows of one length only
    laid(SECOND, (16, LONGEST)),
  ]
  alone = [run(padded(texts)) for texts in (FIRST, SECOND, SECOND)]
  alone[1] = jax.tree.map(lambda a: a[:5], alone[1])
  assert_alike(run(*views), jax.tree.map(lambda *a: jnp.concatenate(a), *alone))


def test_shards_change_nothing():
  run = made("bert")[2]
  assert_alike(run(laid(FIRST, (16, LONGEST), shards=2)), run(padded(FIRST)))


@heads
def test_features_depend_on_a_text_alone(name, head):
  """Neither what stands in the padding nor the neighbours in the row count."""
  run = made(name, head)[2]
  packed = laid(FIRST, (16, LONGEST))
  assert all((rows.segment == 0).any() for rows in packed.rows)
  random = np.random.default_rng(3)

  def scribbled(rows, here):
    noise = random.integers(5, 50, rows.ids.shape).astype(np.int32)
    return rows._replace(
      ids=np.where(here(rows), noise, rows.ids),
      kind=np.where(here(rows), 1, rows.kind).astype(np.int32),
    )

  def features(here):
    rows = tuple(scribbled(rows, here) for rows in packed.rows)
    return np.asarray(run(packed._replace(rows=rows)).features)

  plain = np.asarray(run(packed).features)
  np.testing.assert_array_equal(plain, features(lambda rows: rows.segment == 0))
  # The second text of each row becomes another: the others do not notice.
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


def test_the_mlp_head_is_mean_dense_gelu_dense():
  model, params, run = made("bert")
  found = run(laid(FIRST, (16, LONGEST)))
  encode = jit(lambda *text: model.encoder.apply({"params": params["encoder"]}, *text))
  hidden = np.asarray(encode(*by_text(FIRST)))
  for i, (text, _) in enumerate(FIRST):
    mean = hidden[i, : len(text)].mean(0)  # [CLS] and [SEP] count
    dense = mean @ params["dense"]["kernel"] + params["dense"]["bias"]
    bent = np.array([x * (1 + math.erf(x * 0.5**0.5)) / 2 for x in dense])
    logits = bent @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    assert np.abs(found.features[i] - mean).max() < LIMIT
    assert np.abs(found.logits[i] - logits).max() < LIMIT


@pytest.mark.parametrize("case", CONFIGS)
def test_the_hf_head_is_that_of_transformers(case, tmp_path):
  torch = pytest.importorskip("torch")
  from .parity_test import torch_inputs, torch_model

  # An activation that is not BERT's, to see that DeBERTa's own is taken.
  more = {"pooler_hidden_act": "gelu"} if case == "v3" else {}
  theirs = torch_model(CASES[case], head=True, num_labels=CLASSES, **more)
  theirs.save_pretrained(tmp_path)
  config = read_config(tmp_path)
  params, _ = load_params(tmp_path, config, with_head=True)
  model = Classifier(Encoder(config), CLASSES, "hf")
  assert jax.tree.structure(params) == jax.tree.structure(parameters(model))
  apply = jit(lambda params, *views: model.apply({"params": params}, views))
  with torch.no_grad():
    wanted = theirs(**torch_inputs(*by_text(FIRST))).logits.numpy()
  assert np.ptp(wanted, axis=0).min() > 0.1
  found = apply(params, padded(FIRST)).logits
  assert np.abs(found - wanted).max() < 1e-4  # the limit of parity_test.py


@pytest.mark.parametrize("head", ["mlp", "hf"])
def test_voters_are_classifiers_side_by_side_and_their_mean_counts(head):
  model, params, run = made("bert" if head == "hf" else "v3", head, True)
  found = run(padded(FIRST))
  votes = np.asarray(found.heads["voters"])  # [n, H, C]
  assert votes.shape == (len(FIRST), 2, CLASSES)
  np.testing.assert_allclose(found.logits, votes.mean(1), rtol=1e-6, atol=1e-7)
  single = model.clone(heads={})
  shared = ("encoder", "pooler")  # with head "hf" voters differ in the last layer only
  for h in range(2):
    own = {
      k: v if k in shared else jax.tree.map(lambda a, h=h: a[h], v)
      for k, v in params.items()
    }
    alone = single.apply({"params": own}, found.features, method="classify")
    assert not alone.heads
    assert_alike(votes[:, h], np.asarray(alone.logits))
  assert np.abs(votes[:, 0] - votes[:, 1]).min() > 1e-4


@functools.cache
def beside():
  model = Classifier(Encoder(CONFIGS["bert"]), CLASSES, "mlp", BESIDE)
  params = parameters(model)
  features = np.random.default_rng(4).standard_normal((6, 24), np.float32)
  found = model.apply({"params": params}, features, method="classify")
  return model, params, features, found


def test_a_projection_has_unit_length_and_its_own_width():
  _, params, features, found = beside()
  for name, width in {"unit": 24, "short": 5}.items():
    assert found.heads[name].shape == (6, width)
    np.testing.assert_allclose(np.linalg.norm(found.heads[name], axis=-1), 1, rtol=1e-6)
  last, first = (params["beside_short"][f"Dense_{i}"] for i in range(2))
  hidden = np.maximum(features @ first["kernel"] + first["bias"], 0)
  wanted = hidden @ last["kernel"] + last["bias"]
  wanted /= np.linalg.norm(wanted, axis=-1, keepdims=True)
  assert np.abs(found.heads["short"] - wanted).max() < LIMIT


def test_a_projection_to_nothing_is_finite():
  model, params, features, _ = beside()
  zeros = jax.tree.map(np.zeros_like, params)
  found = model.apply({"params": zeros}, features, method="classify")
  np.testing.assert_array_equal(found.heads["unit"], 0)

  def total(params):
    said = model.apply({"params": params}, features, method="classify")
    return said.heads["unit"].sum()

  assert all(
    np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(total)(zeros))
  )


def test_a_linear_head_has_its_own_width_or_one_for_each_class():
  _, params, features, found = beside()
  for name, width in {"line": 7, "logits": CLASSES}.items():
    own = params[f"beside_{name}"]
    assert found.heads[name].shape == (6, width)
    wanted = features @ own["kernel"] + own["bias"]
    assert np.abs(found.heads[name] - wanted).max() < LIMIT


def test_heads_beside_the_classifier_do_not_change_it():
  _, params, features, found = beside()
  assert set(found.heads) == set(BESIDE)
  own = {name: params[name] for name in ("encoder", "dense", "classifier")}
  alone = made("bert")[0].apply({"params": own}, features, method="classify")
  np.testing.assert_array_equal(found.logits, alone.logits)
  np.testing.assert_array_equal(found.features, features)


def test_two_heads_of_voters_are_refused():
  two = {"some": Head("classifier", 2), "more": Head("classifier", 3)}
  model = Classifier(Encoder(CONFIGS["bert"]), CLASSES, "mlp", two)
  with pytest.raises(ValueError, match="'some', 'more'"):
    jax.eval_shape(model.init, jax.random.key(0), (padded(FIRST),))


DRAWS, RATE = 400, 0.3


@functools.cache
def dropped(name, head):
  """Outputs without dropout, and those of many keys; the encoder itself drops none."""
  params = made(name, head)[1]
  model = Classifier(Encoder(CONFIGS[name], dropout=0.0), CLASSES, head, {}, RATE)
  texts = padded(FIRST)

  def draw(key):
    return model.apply({"params": params}, (texts,), False, rngs={"dropout": key})

  keys = jax.random.split(jax.random.key(0, impl="threefry2x32"), DRAWS)
  drawn = jit(lambda keys: jax.lax.map(draw, keys))(keys)
  return made(name, head)[2](texts), jax.tree.map(np.asarray, drawn)


CASES_OF_DROPOUT = [("bert", "mlp"), ("bert", "hf"), ("v3", "hf")]


@pytest.mark.parametrize(("name", "head"), CASES_OF_DROPOUT)
def test_dropout_before_the_classifier_keeps_the_mean(name, head):
  plain, drawn = dropped(name, head)
  rate = quantised(RATE)
  gone = (drawn.features == 0).mean()
  assert abs(gone - rate) < 5 * np.sqrt(rate * (1 - rate) / drawn.features.size)
  error = drawn.features.std(0) / np.sqrt(DRAWS)
  away = np.abs(drawn.features.mean(0) - plain.features) / (error + 1e-6)
  if name == "v3":
    # DeBERTa drops before its pooler, too, which bends: the mean is near, not equal.
    assert np.median(away) < 5
  else:
    assert away.max() < 5
  scaled = plain.features / (1 - rate)
  alike = np.isclose(drawn.features, scaled, rtol=1e-4, atol=1e-5)
  alike |= drawn.features == 0
  assert alike.all() == (name != "v3")


@pytest.mark.parametrize(("name", "head"), CASES_OF_DROPOUT)
def test_a_pass_in_training_is_another_for_each_key(name, head):
  _, drawn = dropped(name, head)
  assert len(np.unique(drawn.logits[:, 0, 0])) > DRAWS / 2


def test_evaluation_has_no_dropout_and_needs_no_key():
  model, params, run = made("bert")
  assert model.rate > 0
  texts = padded(FIRST)
  none = model.clone(rate=0.0, encoder=model.encoder.clone(dropout=0.0))
  quiet = jit(lambda p, t: none.apply({"params": p}, (t,), False))(params, texts)
  assert_alike(run(texts), quiet)
