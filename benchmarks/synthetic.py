"""A train step with random weights on random tokens: nothing has to be downloaded.

The lengths of the texts follow those of the 2,373 prompts of a public dataset of
harmful and harmless prompts (WildGuardMix, MiniLM's tokenizer, cut at 512 tokens),
given by quantiles: half of them have 74 tokens or fewer. Their mean is 105; between the
quantiles, lengths are drawn evenly, which gives a mean of 109.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssljax import methods, sharding
from ssljax.data.batches.loader import Layout, Loader, TrainSet, View
from ssljax.data.batches.tokenize import Tokens
from ssljax.method import Sizes
from ssljax.models import Encoder
from ssljax.models.classifier import Classifier
from ssljax.models.config import EncoderConfig
from ssljax.training import assemble, optim
from ssljax.training.flops import StepFlops
from ssljax.training.shared_rows import find_groups
from ssljax.training.step import init_state, make_train_step

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
PROMPT_LENGTHS = (5, 11, 19, 74, 161, 241, 318, 477, 512)


class Job(NamedTuple):
  """A step and what it needs."""

  state: Any  # shapes of the TrainState, with shardings
  init: Callable[[], Any]  # makes the state on the devices
  step: Callable  # compiled: (state, batch, hidden) -> (state, metrics)
  loader: Loader
  flops: StepFlops
  devices: sharding.Devices
  micro: bool

  def shapes(self, t: int) -> tuple:
    """The shapes and shardings of what `put` returns."""
    return jax.tree.map(
      lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), self.put(t)
    )

  def put(self, t: int) -> tuple:
    """Batch t on the devices; the arguments of `step` after the state."""
    return sharding.put_batch(*self.loader.batch(t), self.devices, self.micro)


def draw_lengths(count: int, longest: int, seed: int = 0) -> np.ndarray:
  """i64 [count], lengths of texts, at most `longest`."""
  uniform = np.random.default_rng(seed).random(count)
  lengths = np.interp(uniform, QUANTILES, PROMPT_LENGTHS).round().astype(np.int64)
  return np.minimum(lengths, longest)


def make(
  encoder: EncoderConfig,
  *,
  method: str = "fixmatch",
  batch: int = 16,
  ratio: int = 3,
  max_length: int = 512,
  dtype: str = "bfloat16",
  fsdp: int = 1,
  accumulation: int = 1,
  remat: bool = False,
  unroll: int = 0,
  lengths: np.ndarray | None = None,
  devices: list[jax.Device] | None = None,
) -> Job:
  """Builds the step for 200 labelled texts and a pool of 50 batches.

  Args:
    lengths: i64, lengths of texts to draw from; None for `draw_lengths`.
  """
  built = methods.make({"name": method})
  pool = 50 * batch * ratio if built.needs.views else 0
  random = np.random.default_rng(1)

  def view(rows: int, seed: int) -> View:
    if lengths is None:
      drawn = draw_lengths(rows, max_length, seed)
    else:
      drawn = np.minimum(random.choice(lengths, rows), max_length)
    ids = random.integers(5, encoder.vocab_size, drawn.sum()).astype(np.int32)
    offset = np.concatenate([[0], np.cumsum(drawn)])
    tokens = Tokens(ids, offset, drawn.astype(np.int32), np.zeros(rows, bool))
    return View(tokens, np.arange(rows + 1))

  labelled = max(200, batch)
  data = TrainSet(
    {name: view(labelled, 1) for name in built.needs.labelled_views},
    {name: view(pool, 2 + i) for i, name in enumerate(built.needs.views)},
    np.arange(labelled, dtype=np.int32) % 2,
    np.full(pool, -1, np.int32),
  )
  placed = sharding.make_devices("jit", fsdp, devices)
  sizes = Sizes(
    classes=2,
    labelled=labelled,
    unlabelled=pool,
    batch=batch,
    unlabelled_batch=batch * ratio if pool else 0,
    steps=1000,
    epoch_steps=-(-labelled // batch),
    labelled_counts=tuple(np.bincount(data.label).tolist()),
    width=encoder.hidden_size,
  )
  module = Encoder(
    encoder,
    dtype=jnp.dtype(dtype),
    remat=remat,
    dropout=0.1,
    hashed=True,
    unroll=assemble.layers_per_round(unroll, encoder.num_hidden_layers, remat),
    dot=sharding.make_dot(placed),
  )
  model = Classifier(
    module, 2 + built.needs.virtual_classes, "mlp", dict(built.needs.heads), 0.1, True
  )
  loader = Loader(
    data,
    batch=batch,
    unlabelled_batch=sizes.unlabelled_batch,
    classes=2 + built.needs.virtual_classes,
    seed=0,
    steps=sizes.steps,
    layout=Layout(
      placed.shards, accumulation, max_length, True, encoder.break_even_length
    ),
    groups=find_groups(built, model, sizes, accumulation),
  )
  first = loader.batch(0)[0]
  text = jax.tree.map(
    lambda a: a[0] if accumulation > 1 else a, first.labelled.views["weak"]
  )
  init_params = lambda key: model.init(key, (text,))["params"]
  key = jax.random.key(0, impl="rbg")
  params = jax.eval_shape(init_params, key)
  optimizer = optim.make(
    params,
    learning_rate=5e-5,
    weight_decay=5e-4,
    layer_decay=0.75,
    warmup=13,
    total=sizes.steps,
    clip=0.0,
  )

  def init(key):
    return init_state(
      init_params(key),
      method=built,
      optimizer=optimizer,
      sizes=sizes,
      ema=built.needs.teacher,
      key=key,
    )

  abstract = jax.eval_shape(init, key)
  shardings = sharding.state_shardings(abstract, placed)
  step = make_train_step(
    model=model,
    method=built,
    optimizer=optimizer,
    sizes=sizes,
    ema=0.99 if built.needs.teacher else 0.0,
    micro=accumulation,
  )
  return Job(
    state=jax.tree.map(
      lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
      abstract,
      shardings,
    ),
    init=lambda: jax.jit(init, out_shardings=shardings)(key),
    step=sharding.compile_train_step(step, placed, shardings, accumulation > 1),
    loader=loader,
    flops=StepFlops(
      model=model, method=built, params=params, sizes=sizes, micro=accumulation
    ),
    devices=placed,
    micro=accumulation > 1,
  )
