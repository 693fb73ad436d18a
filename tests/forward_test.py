"""Forward: what a method asks of the model is what the model says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.data import pack
from ssljax.forward import ModelForward
from ssljax.method import Head
from ssljax.models import Encoder
from ssljax.models.classifier import Classifier
from ssljax.models.config import from_json
from tests import tiny

KEY = jax.random.key(0, impl="rbg")
CLASSES, LAYERS, LONGEST = 3, 2, 24
LIMIT = 1e-5
# Compiled in a third of the time, and run once.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def texts(seed: int, rows: int = 6, packed: bool = True, shards: int = 1, lengths=None):
  """Random texts in rows of LONGEST tokens, their lengths 3 to LONGEST."""
  random = np.random.default_rng(seed)
  if lengths is None:
    # Longest first, so that every seed is laid out alike.
    lengths = np.tile([LONGEST, 16, 9, 7, 4, 3], -(-rows // 6))[:rows]
  made = [(random.integers(5, tiny.VOCABULARY, n).astype(np.int32), n) for n in lengths]
  parts = [made[s * rows // shards :][: rows // shards] for s in range(shards)]
  plans = [
    pack.plan(np.array([len(ids) for ids, _ in part]), (LONGEST,), packed)
    for part in parts
  ]
  most = int(np.max([plan.rows for plan in plans]))
  return pack.lay(plans, parts, pack.Shape(((LONGEST, most),)), packed)


@functools.cache
def made(head: str = "mlp", dropout: float = 0.0):
  """A model, its parameters, and others, as of a teacher."""
  config = from_json(tiny.CONFIG | {"num_hidden_layers": LAYERS}, "tiny")
  heads = {"voters": Head("classifier", 2), "unit": Head("projection")}
  model = Classifier(Encoder(config, dropout=dropout), CLASSES, head, heads, dropout)
  shapes = jax.eval_shape(model.init, KEY, (texts(0),))["params"]
  random = np.random.default_rng(0)
  draw = lambda leaf: 0.3 * random.standard_normal(leaf.shape, np.float32)
  return model, jax.tree.map(draw, shapes), jax.tree.map(draw, shapes)


def passing(dropout: float = 0.0, **options):
  """`run(params, teacher, views, key)`: a pass with these options."""
  model = made(dropout=dropout)[0]
  of_call = {k: options.pop(k) for k in ("teacher", "gradient") if k in options}

  def run(params, teacher, views, key):
    forward = ModelForward(model, params, teacher, **options)
    return forward(*views, key=key, **of_call)

  return run


runner = functools.cache(lambda *args, **options: jit(passing(*args, **options)))


def assert_alike(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.shape == y.shape
    assert np.abs(np.asarray(x) - np.asarray(y)).max() < LIMIT


def test_several_views_in_one_call_equal_one_by_one():
  _, params, _ = made()
  run = runner()
  views = texts(1), texts(2), texts(3)
  together = run(params, None, views, KEY)
  assert isinstance(together, tuple)
  alone = tuple(run(params, None, (view,), KEY) for view in views)
  assert_alike(together, alone)
  assert np.abs(alone[0].logits - alone[1].logits).max() > 0.01


def test_micro_batches_equal_the_whole():
  _, params, _ = made()
  views = [texts(1), texts(2)]
  stacked = jax.tree.map(lambda *a: np.stack(a), *views)
  run = runner(micro=True)
  found = run(params, None, (stacked, stacked), KEY)
  alone = [runner()(params, None, (view,), KEY) for view in views]
  whole = jax.tree.map(lambda *a: jnp.concatenate(a), *alone)
  assert_alike(found, (whole, whole))
  assert_alike(run(params, None, (stacked,), KEY), whole)


def test_micro_batches_draw_their_own_dropout():
  _, params, _ = made(dropout=0.5)
  twice = jax.tree.map(lambda a: np.stack([a, a]), texts(1))
  found = runner(0.5, micro=True)(params, None, (twice,), KEY)
  first, second = np.asarray(found.features).reshape(2, 6, -1)
  assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize("head", ["mlp", "hf"])
def test_classify_of_a_pass_own_features_gives_its_outputs(head):
  model, params, _ = made(head)
  forward = ModelForward(model, params)
  found = jit(lambda view: forward(view, key=KEY))(texts(1))
  assert set(found.heads) == {"voters", "unit"}
  assert_alike(forward.classify(found.features), found)


def test_classify_takes_a_gradient_to_the_features_and_to_the_heads():
  model, params, _ = made()
  features = np.random.default_rng(1).standard_normal((4, 16), np.float32)
  total = lambda p, f: (ModelForward(model, p).classify(f).logits ** 2).sum()
  to_params, to_features = jit(jax.grad(total, (0, 1)))(params, features)
  assert np.abs(to_features).min(axis=-1).max() > 0
  assert np.abs(to_params["classifier"]["kernel"]).max() > 0


@functools.cache
def embedded():
  """Outputs through `embed`, the embeddings, and the logits' gradient to these."""
  model, params, _ = made()

  def run(params, view):
    forward = ModelForward(model, params)
    filled = forward.embed(view)

    def total(filled):
      outputs = forward(filled, key=KEY)
      return (outputs.logits**2).sum(), outputs

    ints = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.integer)
    gradient, outputs = jax.grad(total, has_aux=True, allow_int=True)(filled)
    (rows,) = gradient.rows
    assert all(ints(leaf) for leaf in filled.rows[0][:4])
    return outputs, filled.rows[0].embedding, rows.embedding

  return jit(run)(params, texts(1))


def test_a_pass_over_its_own_embeddings_is_the_pass_itself():
  _, params, _ = made()
  outputs, embedding, _ = embedded()
  assert_alike(outputs, runner()(params, None, (texts(1),), KEY))
  table = params["encoder"]["embeddings"]["word"]["embedding"]
  np.testing.assert_array_equal(embedding, table[texts(1).rows[0].ids])
  assert embedding.dtype == jnp.float32


def test_the_gradient_reaches_the_embeddings_of_all_tokens_and_of_no_padding():
  _, _, gradient = embedded()
  real = texts(1).rows[0].segment > 0
  assert not real.all()
  size = np.abs(gradient).max(axis=-1)
  assert size[real].min() > 0
  np.testing.assert_array_equal(size[~real], 0)


def test_other_embeddings_give_other_outputs():
  model, params, _ = made()
  forward = ModelForward(model, params)

  def run(noise):
    filled = forward.embed(texts(1))
    rows = filled.rows[0]._replace(embedding=filled.rows[0].embedding + noise)
    return forward(filled._replace(rows=(rows,)), key=KEY).logits

  noise = np.random.default_rng(2).standard_normal(16, np.float32)
  assert np.abs(jit(run)(noise) - embedded()[0].logits).max() > 0.01


@functools.cache
def mixer(head: str):
  """`mix(a, b, share, layer)`, compiled."""
  model, params, _ = made(head)
  forward = ModelForward(model, params)
  return jit(lambda a, b, share, layer: forward.mix(a, b, share, layer, KEY))


def mixed(head, a, b, share, layer):
  return mixer(head)(a, np.array(b, np.int32), np.float32(share), np.int32(layer))


@functools.cache
def plain(head: str):
  model, params, _ = made(head)
  return jit(lambda view: ModelForward(model, params)(view, key=KEY))


heads = pytest.mark.parametrize("head", ["mlp", "hf"])
layers = pytest.mark.parametrize("layer", [0, 1, LAYERS])
# Rows of padded texts stand longest first, as the texts do.
SHORTER, LONGER = [1, 2, 3, 4, 5, 5], [0, 0, 1, 2, 3, 4]


@heads
@layers
def test_a_share_of_1_gives_the_text_itself(head, layer):
  a = texts(1, packed=False)
  shares = 1.0 if layer else np.ones(6, np.float32)
  # No partner is longer: what is real in either is what is real in the text.
  assert_alike(mixed(head, a, SHORTER, shares, layer), plain(head)(a))


@heads
@layers
def test_a_share_of_0_gives_the_partner(head, layer):
  a = texts(1, packed=False)
  wanted = jax.tree.map(lambda leaf: leaf[np.array(LONGER)], plain(head)(a))
  assert_alike(mixed(head, a, LONGER, np.zeros(6) if layer else 0.0, layer), wanted)


@heads
@layers
def test_a_pair_mixes_to_the_same_from_both_sides(head, layer):
  """Whatever the two lengths: what is real in either is read."""
  a = texts(1, packed=False)
  pairs = np.array([5, 3, 4, 1, 2, 0])
  share = np.array([0.9, 0.3, 0.6, 0.7, 0.4, 0.1], np.float32)
  found = mixed(head, a, pairs, share, layer)
  assert_alike(found, jax.tree.map(lambda leaf: leaf[pairs], found))
  assert np.abs(found.logits - plain(head)(a).logits).max() > 0.01


@heads
def test_after_the_last_layer_hidden_states_are_mixed_and_pooled(head):
  model, params, _ = made(head)
  a = texts(1, packed=False)
  (rows,) = jax.tree.map(lambda leaf: leaf[0], a.rows)
  encode = jit(
    lambda ids, mask: model.encoder.apply({"params": params["encoder"]}, ids, mask)
  )
  hidden = np.asarray(encode(rows.ids, rows.segment))
  pairs = np.array([1, 2, 0, 3, 5, 4])
  share = np.linspace(0.1, 0.9, 6, dtype=np.float32)
  blend = share[:, None, None] * hidden + (1 - share)[:, None, None] * hidden[pairs]
  found = mixed(head, a, pairs, share, LAYERS)
  if head == "mlp":
    real = np.maximum(rows.segment, rows.segment[pairs])[..., None]
    wanted = (blend * real).sum(1) / real.sum(1)
  else:
    pooler = params["pooler"]
    wanted = np.tanh(blend[:, 0] @ pooler["kernel"] + pooler["bias"])
  assert np.abs(found.features - wanted).max() < LIMIT


@heads
def test_what_stands_in_the_padding_of_a_mixture_changes_nothing(head):
  a = texts(1, packed=False, lengths=[16, 16, 9, 9, 7, 7])
  (rows,) = a.rows
  pairs = np.array([1, 0, 3, 2, 5, 4])  # partners are as long, so padding is in both
  noise = np.random.default_rng(2).integers(5, 99, rows.ids.shape).astype(np.int32)
  other = a._replace(
    rows=(rows._replace(ids=np.where(rows.segment > 0, rows.ids, noise)),)
  )
  for layer in (0, LAYERS):
    assert_alike(
      mixed(head, a, pairs, 0.4, layer), mixed(head, other, pairs, 0.4, layer)
    )


def test_mixing_is_training_it_takes_dropout_and_gradients():
  model, params, _ = made(dropout=0.5)
  a = texts(1, packed=False)

  def run(params, key):
    found = ModelForward(model, params).mix(
      a, np.array(SHORTER), np.float32(0.5), np.int32(1), key
    )
    return (found.logits**2).sum(), found.logits

  take = jit(jax.grad(run, has_aux=True))
  gradient, first = take(params, KEY)
  assert np.abs(first - take(params, jax.random.fold_in(KEY, 1))[1]).max() > 0.01
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
  assert np.abs(gradient["encoder"]["embeddings"]["word"]["embedding"]).max() > 0


def test_mixing_refuses_what_has_no_position_by_position():
  model, params, _ = made()
  arguments = (np.zeros(6, np.int32), 0.5, 0, KEY)
  padded, packed = texts(1, packed=False), texts(1)
  two = padded._replace(rows=padded.rows * 2)
  for forward, given in (
    (ModelForward(model, params), packed),
    (ModelForward(model, params), two),
    (ModelForward(model, params, micro=True), padded),
  ):
    with pytest.raises(ValueError, match=r"layout='padded'.* no gradient acc"):
      forward.mix(given, *arguments)


def test_a_teacher_that_is_not_there_is_named():
  model, params, _ = made()
  with pytest.raises(ValueError, match=r"Needs\(teacher=True\)"):
    ModelForward(model, params)(texts(1), key=KEY, teacher=True)


@functools.cache
def gradients(dropout: float = 0.0, **of_call):
  """A pass's outputs, and its largest gradients to the parameters and the teacher's."""
  run = passing(dropout, **of_call)
  _, *both = made(dropout=dropout)

  def total(params, teacher):
    outputs = run(params, teacher, (texts(1),), KEY)
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(outputs)), outputs

  (mine, teachers), outputs = jit(jax.grad(total, (0, 1), has_aux=True))(*both)
  size = lambda tree: max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
  return outputs, size(mine), size(teachers)


def test_the_teacher_speaks_with_its_own_parameters_and_takes_no_gradient():
  _, params, teacher = made()
  outputs, mine, teachers = gradients(teacher=True)
  assert mine == teachers == 0
  # gradient=True, the default, gives a teacher none either.
  assert_alike(outputs, runner()(teacher, None, (texts(1),), KEY))
  assert (
    np.abs(outputs.logits - runner()(params, None, (texts(1),), KEY).logits).max()
    > 0.01
  )


def test_a_pass_without_gradient_says_the_same_and_takes_none():
  outputs, mine, teachers = gradients(gradient=False)
  assert mine == teachers == 0
  learning, mine, teachers = gradients()
  assert mine > 0
  assert teachers == 0
  assert_alike(outputs, learning)


@pytest.mark.parametrize("which", [{"gradient": False}, {"teacher": True}], ids=str)
def test_without_weak_dropout_passes_without_gradient_drop_nothing(which):
  _, *both = made(dropout=0.5)
  views, other = (texts(1),), jax.random.fold_in(KEY, 1)
  still = runner(0.5, weak_dropout=False, **which)
  assert_alike(still(*both, views, KEY), still(*both, views, other))
  # It says what a model without dropout does.
  own = both[1 if "teacher" in which else 0]
  assert_alike(still(*both, views, KEY), runner()(own, None, views, KEY))
  moving = runner(0.5, **which)
  moved = moving(*both, views, KEY).logits - moving(*both, views, other).logits
  assert np.abs(moved).max() > 0.01


def test_without_weak_dropout_passes_that_learn_still_drop():
  _, *both = made(dropout=0.5)
  run = runner(0.5, weak_dropout=False)
  one, two = (run(*both, (texts(1),), jax.random.fold_in(KEY, k)) for k in range(2))
  assert np.abs(one.logits - two.logits).max() > 0.01


def on_two_devices(run, *views):
  """`run(*views)` under pmap, each device with its shard; outputs of the first."""
  expand = lambda tree: jax.tree.map(lambda a: a[None], tree)
  both = jax.pmap(
    lambda *mine: run(*(expand(view) for view in mine)),
    axis_name="data",
    devices=jax.devices()[:2],
  )(*views)
  for leaf in jax.tree.leaves(both):
    np.testing.assert_array_equal(leaf[0], leaf[1])
  return jax.tree.map(lambda a: np.asarray(a[0]), both)


def test_under_pmap_each_device_sees_the_global_batch():
  model, params, _ = made()
  forward = ModelForward(model, params, axis="data")
  views = texts(1, shards=2), texts(2, shards=2)
  found = on_two_devices(lambda *mine: forward(*mine, key=KEY), *views)
  assert_alike(found, tuple(plain("mlp")(view) for view in views))


def test_under_pmap_devices_draw_their_own_dropout():
  model, params, _ = made(dropout=0.5)
  forward = ModelForward(model, params, axis="data")
  half = texts(1, rows=3)
  twice = jax.tree.map(lambda a: np.concatenate([a, a]), half)
  found = on_two_devices(lambda mine: forward(mine, key=KEY), twice)
  assert np.abs(found.logits[:3] - found.logits[3:]).max() > 0.01


def test_under_pmap_partners_on_other_devices_are_found():
  model, params, _ = made()
  forward = ModelForward(model, params, axis="data")
  a, pairs = texts(1, packed=False, shards=2), np.array([5, 3, 4, 1, 2, 0])
  found = on_two_devices(lambda a: forward.mix(a, pairs, 0.3, jnp.int32(1), KEY), a)
  assert_alike(found, mixed("mlp", texts(1, packed=False), pairs, 0.3, 1))


def test_mixing_keeps_the_order_of_the_texts():
  # Padded rows are laid longest first, so here the order of rows is not that of texts.
  a = texts(1, packed=False, lengths=[3, 16, 9, LONGEST, 7, 4])
  assert (a.where[0] != np.arange(6)).any()
  found = mixed("mlp", a, np.arange(6), 1.0, 1)  # each its own partner: itself
  np.testing.assert_allclose(found.logits, plain("mlp")(a).logits, atol=1e-5)


def test_partners_are_texts_not_rows():
  a = texts(1, packed=False, lengths=[3, 16, 9, LONGEST, 7, 4])
  partner = np.array([1, 3, 3, 3, 3, 3])  # none shorter than the text
  found = mixed("mlp", a, partner, 0.0, 1)
  np.testing.assert_allclose(found.logits, plain("mlp")(a).logits[partner], atol=1e-5)
