"""Encoders of known sizes, and FixMatch steps of them as shapes, without weights."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssljax import config as configuration
from ssljax import methods, sharding
from ssljax.batch import Batch, Labelled, Rows, Texts, Unlabelled
from ssljax.data.batches import pack
from ssljax.method import Sizes
from ssljax.models import Encoder, EncoderConfig
from ssljax.models.classifier import Classifier
from ssljax.training import optim, step

_V3 = functools.partial(
  EncoderConfig,
  model_type="deberta-v2",
  vocab_size=128100,
  type_vocab_size=0,
  layer_norm_eps=1e-7,
  position_biased_input=False,
  relative_attention=True,
  pos_att_type=("p2c", "c2p"),
  position_buckets=256,
  share_att_key=True,
  norm_rel_ebd="layer_norm",
)
ENCODERS = {
  "MiniLM": EncoderConfig(
    hidden_size=384,
    num_hidden_layers=6,
    num_attention_heads=12,
    intermediate_size=1536,
  ),
  "BERT-base": EncoderConfig(),
  "DeBERTa-v3-base": _V3(),
  "DeBERTa-v3-large": _V3(
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
  ),
}
UNLABELLED_RATIO = configuration.KEYS["unlabelled_ratio"].default
CLASSES, STEPS, WARMUP = 2, 1300, 13


class Step(NamedTuple):
  """A train step, not yet compiled, and the shapes of its arguments."""

  run: Any  # jitted: (state, batch, hidden) -> (state, metrics)
  arguments: tuple[Any, Any, Any]  # state, batch, hidden; jax.ShapeDtypeStruct


def fixmatch_step(
  encoder: EncoderConfig,
  *,
  batch: int = 16,
  tokens: int = 105,
  length: int = 512,
  dtype: str = "float32",
  remat: bool = False,
  accumulation: int = 1,
  fsdp: int = 1,
) -> Step:
  """Builds FixMatch's step on all devices, with the settings of the default config.

  Args:
    batch: labelled texts; there are three times as many unlabelled ones.
    tokens: mean length of a text; by default, as in the prompts of the README.
    length: tokens per row.

  Raises:
    ValueError: the batch can't be divided among devices and micro-batches.
  """
  devices = sharding.make_devices("jit", fsdp)
  parts = devices.shards * accumulation
  unlabelled = batch * UNLABELLED_RATIO
  if batch % parts:
    raise ValueError(f"a batch of {batch} in {parts} parts")
  sizes = Sizes(
    CLASSES,
    200,
    2000,
    batch,
    unlabelled,
    STEPS,
    WARMUP,
    (100, 100),
    encoder.hidden_size,
  )
  defaults = {name: key.default for name, key in configuration.KEYS.items()}
  model = Classifier(
    Encoder(encoder, jnp.dtype(dtype), remat, defaults["dropout"]),
    CLASSES,
    rate=defaults["dropout"],
  )
  method = methods.make({"name": "fixmatch"})
  hyperparameters = ("learning_rate", "weight_decay", "layer_decay", "clip")
  one = Texts((Rows(*[_ids(1, 1, 1)] * 4),), _ids(1, 1))
  params = jax.eval_shape(model.init, jax.random.key(0), (one,))["params"]
  optimizer = optim.make(
    params,
    warmup=WARMUP,
    total=STEPS,
    **{name: defaults[name] for name in hyperparameters},
  )
  key = jax.random.key(0, impl=defaults["prng"])
  state = jax.eval_shape(
    lambda params: step.init_state(
      params, method=method, optimizer=optimizer, sizes=sizes, ema=False, key=key
    ),
    params,
  )
  shardings = sharding.state_shardings(state, devices)
  train_step = step.make_train_step(
    model=model, method=method, optimizer=optimizer, sizes=sizes, micro=accumulation
  )
  lead = (accumulation,) if accumulation > 1 else ()
  axes = sharding.P(*[None] * len(lead), ("data", "fsdp"))
  split = jax.sharding.NamedSharding(devices.mesh, axes)

  def view(texts: int) -> Texts:
    texts //= parts  # per device and micro-batch
    rows = -(-texts * tokens // length)
    slots = pack.slots_per_row(length, True)
    ids = _ids(*lead, devices.shards, rows, length)
    first = _ids(*lead, devices.shards, rows, slots)
    return Texts((Rows(ids, ids, ids, first),), _ids(*lead, devices.shards, texts))

  label = jax.ShapeDtypeStruct((batch, CLASSES), jnp.float32)
  views = {"weak": view(unlabelled), "strong": view(unlabelled)}
  shapes = Batch(
    Labelled({"weak": view(batch)}, label, _ids(batch)),
    Unlabelled(views, _ids(unlabelled)),
  )
  place = lambda where: lambda leaf: leaf.update(sharding=where)
  rest = place(devices.replicated)
  return Step(
    sharding.compile_train_step(train_step, devices, shardings, accumulation > 1),
    (
      jax.tree.map(lambda leaf, where: leaf.update(sharding=where), state, shardings),
      sharding.map_batch(place(split), rest, shapes),
      rest(_ids(unlabelled)),
    ),
  )


def _ids(*shape: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, jnp.int32)
