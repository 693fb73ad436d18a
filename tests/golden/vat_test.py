"""VAT on text against arXiv 1704.03976 and 1605.07725, in plain NumPy.

There are two models: a smooth one that is also written in NumPy, for derivatives by
central differences, and the tiny real one, to see where r is added.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.batch import Batch, Labelled, Unlabelled
from ssljax.method import Assignment, Clock, Outputs, Term
from ssljax.methods import vat
from ssljax.models.forward import ModelForward
from tests import passes
from tests.golden import fake, plain
from tests.golden.smooth import (
  ROWS,
  VOCABULARY,
  D,
  Recorder,
  Smooth,
  lay_out,
  logits_of_text,
  parameters,
  text_of,
  words,
)

EPSILON, SCALE, ENTROPY, RAMP = 1.5, 0.7, 0.06, 0.4
LENGTHS = (9, 4, 3, 7, 16, 5, 2, 24)  # of the unlabelled texts
KEY = jax.random.key(3)


def batch_of(unlabelled, labelled, label):
  return Batch(
    Labelled({"weak": labelled}, jnp.asarray(label, jnp.float32), jnp.arange(3)),
    Unlabelled({"weak": unlabelled}, jnp.arange(len(LENGTHS))),
  )


class Run(NamedTuple):
  terms: dict
  assigned: Assignment
  change: list  # what was added, for each row length
  start: list  # the initial direction, for each row length


@functools.partial(passes.jit, static_argnums=0)
def run(make_forward, params, texts, labelled, label, progress):
  """One step of VAT with the forward that `make_forward` builds from the parameters."""
  clock = Clock(jnp.int32(3), progress, jnp.int32(1), KEY, 6)
  forward = make_forward(params)
  method = vat.make(EPSILON, SCALE, ENTROPY, RAMP)
  terms, _, assigned = method.loss(forward, batch_of(texts, labelled, label), (), clock)
  clean = make_forward(params).embed(texts)
  draw = jax.random.split(KEY, 3)[0]
  start = [vat.noise(rows, draw) for rows in clean.rows]
  terms = {  # a scale may be a plain number
    name: Term(*(jnp.asarray(a, jnp.float32) for a in term))
    for name, term in terms.items()
  }
  return Run(terms, assigned, forward.change(clean), start)


def totals(terms):
  return {
    name: jnp.mean(term.weight * term.loss) * term.scale for name, term in terms.items()
  }


as_f32 = functools.partial(jax.tree.map, lambda a: jnp.asarray(a, jnp.float32))


def length(rows):
  return np.sqrt(sum(float(x) ** 2 for x in np.ravel(rows)))


def directed(jacobian, p, d):
  """J' (diag(p) - p p') J d / its length; J f64 [C, n], d f64 [n]."""
  d = d / length(d)
  moved = [plain.dot(row, d) for row in jacobian]
  mean = plain.dot(p, moved)
  pulled = [p[c] * (moved[c] - mean) for c in range(len(p))]
  g = sum(pulled[c] * np.asarray(jacobian[c], np.float64) for c in range(len(p)))
  return g / length(g)


def check_change(result, texts, i, jacobian, p, embedding):
  """r of text i has the right length and direction; returns it."""
  d = np.asarray(text_of(texts, i, result.start), np.float64)
  size = EPSILON * length(embedding) / np.sqrt(embedding.size)
  change = np.asarray(text_of(texts, i, result.change), np.float64)
  assert length(change) == pytest.approx(size, rel=1e-4)
  expected = size * directed(jacobian, p, d.ravel())
  np.testing.assert_allclose(change.ravel(), expected, atol=2e-3 * size)
  return change


def check_padding(result, texts):
  """r is 0 at padding."""
  for rows, value in zip(texts.rows, result.change, strict=True):
    assert not np.any(np.asarray(value)[rows.segment == 0])


def differences(function, values):
  """d function / d values f64 [C, values.size], by central differences."""
  columns = [plain.slope(function, values, place) for place in np.ndindex(values.shape)]
  return np.array(columns).T


@pytest.mark.slow
@pytest.mark.parametrize(
  ("classes", "packed", "size", "sure"),
  # The last is very confident, where sums of order 1 would leave rounding errors only.
  [(2, True, 1.0, 1), (5, True, 0.02, 1), (5, False, 1.0, 1), (5, True, 1.0, 15)],
)
def test_equals_the_equations(classes, packed, size, sure):
  random = np.random.default_rng(classes)
  params = parameters(random, classes, size)
  params["outer"][:, -1] -= 3 * (classes > 2)  # a class nobody predicts
  params["outer"] *= sure
  ids = [random.integers(VOCABULARY, size=n) for n in LENGTHS]
  labelled = [random.integers(VOCABULARY, size=4) for _ in range(3)]
  texts, label = lay_out(ids, packed), fake.random_labels(random, 3, classes)
  assert (len(texts.rows[0].first[0, 0]) > 1) == packed
  result = run(Smooth, as_f32(params), texts, lay_out(labelled), label, np.float32(0.1))

  table, apart, entropies = params["table"], [], []
  for i, one in enumerate(ids):
    logits = functools.partial(logits_of_text, params)
    p = fake.softmax(logits(table[one]))
    jacobian = differences(logits, table[one])
    change = check_change(result, texts, i, jacobian, p, table[one])
    apart.append(plain.divergence(p, logits(table[one] + change)))
    entropies.append(-sum(x * np.log(x) for x in p))
    np.testing.assert_allclose(result.assigned.target[i], p, rtol=1e-4)
  np.testing.assert_array_equal(result.assigned.weight, np.ones(len(ids)))
  check_padding(result, texts)

  answers = [logits_of_text(params, table[one]) for one in labelled]
  found = {name: float(total) for name, total in totals(result.terms).items()}
  assert found == pytest.approx(
    {
      "labelled": fake.mean_cross_entropy(answers, label),
      "unlabelled": SCALE * 0.25 * sum(apart) / len(apart),
      "entropy": ENTROPY * sum(entropies) / len(entropies),
    },
    rel=1e-4,
  )


@functools.cache
def smooth_run():
  """(parameters, token ids of the unlabelled and of the labelled texts, labels)."""
  random = np.random.default_rng(0)
  params = parameters(random, 5)
  ids = [random.integers(VOCABULARY, size=n) for n in LENGTHS]
  labelled = [random.integers(VOCABULARY, size=4) for _ in range(3)]
  return params, ids, labelled, fake.random_labels(random, 3, 5)


def smooth_arguments(packed=True, **changed_params):
  """Arguments of `run` after the forward and before the progress."""
  params, ids, labelled, label = smooth_run()
  return as_f32(params | changed_params), lay_out(ids, packed), lay_out(labelled), label


@functools.partial(passes.jit, static_argnums=0)
def value_and_gradient(make_forward, params, texts, labelled, label):
  """Value and gradient of the sum of the terms, at a quarter of the ramp."""

  def total(params):
    step = run.__wrapped__(make_forward, params, texts, labelled, label, 0.1)
    return sum(totals(step.terms).values())

  return jax.value_and_grad(total)(params)


@pytest.mark.slow
def test_target_and_r_have_no_gradient_but_the_entropy_has():
  params, ids, labelled, label = smooth_run()
  texts = lay_out(ids)
  change = run(Smooth, *smooth_arguments(), np.float32(0.1)).change
  fixed = [np.asarray(text_of(texts, i, change)) for i in range(len(ids))]
  targets = [fake.softmax(logits_of_text(params, params["table"][one])) for one in ids]

  def reference_loss(name, values):
    changed = params | {name: values}
    table = changed["table"]
    answers = [logits_of_text(changed, table[one]) for one in labelled]
    loss = fake.mean_cross_entropy(answers, label)
    for one, r, p in zip(ids, fixed, targets, strict=True):
      q = fake.softmax(logits_of_text(changed, table[one]))
      far = plain.divergence(p, logits_of_text(changed, table[one] + r))
      entropy = -sum(x * np.log(x) for x in q)
      loss += (SCALE * 0.25 * far + ENTROPY * entropy) / len(ids)
    return loss

  _, gradient = value_and_gradient(Smooth, *smooth_arguments())
  seen = ids[0][0]
  places = {"table": [(seen, 0), (seen, 2)], "inner": [(0, 0), (2, 1)]}
  for name, where in (places | {"outer": [(1, 2), (3, 0)]}).items():
    for place in where:
      slope = plain.slope(functools.partial(reference_loss, name), params[name], place)
      assert gradient[name][place] == pytest.approx(slope, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(("progress", "share"), [(0, 0), (0.2, 0.5), (0.4, 1), (1, 1)])
def test_the_divergence_ramps_up_and_the_entropy_does_not(progress, share):
  terms = run(Smooth, *smooth_arguments(), np.float32(progress)).terms
  assert float(terms["unlabelled"].scale) == pytest.approx(SCALE * share)
  assert float(terms["entropy"].scale) == pytest.approx(ENTROPY)


def test_a_constant_model_has_no_divergence():
  constant = smooth_arguments(outer=np.zeros((D, 5)))
  value, gradient = value_and_gradient(Smooth, *constant)
  assert value == pytest.approx((1 + ENTROPY) * np.log(5), rel=1e-5)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


class Real(ModelForward, Recorder):
  """The tiny real model."""

  def __init__(self, params):
    ModelForward.__init__(self, passes.build_model()[0], params)
    Recorder.__init__(self)

  def __call__(self, *texts, **options):
    self.inputs += texts
    return super().__call__(*texts, **options)


@functools.cache
def real_params():
  """Its parameters, scaled for confident predictions, so that changes are visible."""
  params = passes.build_model()[1]
  return params | {"classifier": jax.tree.map(lambda a: a * 40, params["classifier"])}


@functools.cache
def real_run():
  """A step of VAT on it: (ids, texts, Run). No token is repeated."""
  random = np.random.default_rng(0)
  ids = np.split(5 + random.permutation(90)[: sum(LENGTHS)], np.cumsum(LENGTHS)[:-1])
  texts, labelled = (lay_out(some, row_lengths=ROWS[-1:]) for some in (ids, ids[:3]))
  label = np.eye(passes.CLASSES)[:3]
  return ids, texts, run(Real, real_params(), texts, labelled, label, np.float32(1.0))


@pytest.mark.slow
def test_r_is_added_once_to_the_word_embeddings():
  """Published code adds it after positions and LayerNorm, and applies both again.

  As no token is repeated, other word embeddings have the same effect.
  """
  ids, texts, result = real_run()
  params = real_params()
  table = np.array(params["encoder"]["embeddings"]["word"]["embedding"])
  for i, one in enumerate(ids):
    table[one] += text_of(texts, i, result.change)
  moved = jax.tree.map(lambda leaf: leaf, params)  # a copy
  moved["encoder"]["embeddings"]["word"]["embedding"] = table
  answer = passes.jit(lambda params: Real(params)(texts, key=KEY).logits)
  clean, changed = answer(params), answer(moved)
  assert np.abs(clean - changed).max() > 0.3
  for i in range(len(ids)):
    far = plain.divergence(fake.softmax(clean[i]), changed[i])
    loss = float(result.terms["unlabelled"].loss[i])
    assert loss == pytest.approx(far, rel=1e-3, abs=1e-6)


def test_r_of_the_real_model_follows_from_its_jacobian():
  ids, texts, result = real_run()
  params = real_params()

  @passes.jit
  def logits_and_jacobian(params):
    forward = Real(params)
    clean = forward.embed(texts)

    def answer(words):
      pairs = zip(clean.rows, words, strict=True)
      rows = tuple(rows._replace(embedding=one) for rows, one in pairs)
      return forward(clean._replace(rows=rows), key=KEY).logits

    return answer(words(clean)), jax.jacrev(answer)(words(clean))

  logits, jacobian = logits_and_jacobian(params)
  jacobian = [np.asarray(one, np.float64) for one in jacobian]
  table = np.asarray(params["encoder"]["embeddings"]["word"]["embedding"])
  for i, one in enumerate(ids):
    p = fake.softmax(logits[i])
    rows = [text_of(texts, i, [j[i, c] for j in jacobian]) for c in range(len(p))]
    jacobian_of_text = np.array([row.ravel() for row in rows])
    check_change(result, texts, i, jacobian_of_text, p, table[one])
  check_padding(result, texts)


class Dropping(Smooth):
  """Drops half of the features, depending on the key of the pass."""

  def __call__(self, texts, *, key, **options):
    result = super().__call__(texts, key=key, **options)
    kept = result.features * jax.random.bernoulli(key, 0.5, result.features.shape)
    return Outputs(kept @ self.params["outer"], kept, {})


def test_clean_and_perturbed_texts_share_their_dropout():
  """So without a perturbation there is no divergence."""
  params, *texts_and_label = smooth_arguments()
  batch = batch_of(*texts_and_label)
  clock = Clock(jnp.int32(3), jnp.float32(1.0), jnp.int32(1), KEY, 6)
  method = vat.make(epsilon=0.0)
  loss = passes.jit(
    lambda: method.loss(Dropping(params), batch, (), clock)[0]["unlabelled"]
  )
  np.testing.assert_allclose(loss().loss, 0, atol=1e-5)


def test_the_direction_depends_on_the_position_in_a_text():
  """It is the same in packed and in padded rows."""
  result = []
  for packed in (True, False):
    params, texts, *labelled = smooth_arguments(packed)
    start = run(Smooth, params, texts, *labelled, np.float32(1.0)).start
    result.append([text_of(texts, i, start) for i in range(len(LENGTHS))])
  for a, b in zip(*result, strict=True):
    np.testing.assert_array_equal(a, b)
