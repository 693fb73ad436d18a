"""The encoder in Flax Linen: BERT and DeBERTa-v2/v3 over padded or packed rows."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssljax.errors import UserError
from ssljax.models.activations import ACTIVATIONS
from ssljax.models.attention import SelfAttention
from ssljax.models.attention_kernel import Kernel
from ssljax.models.config import EncoderConfig
from ssljax.models.dropout import dropout, hash_seeds

Array = jax.Array


class Encoder(nn.Module):
  """Maps token ids to hidden states.

  Parameters are float32. Arrays below `layers` have a leading axis [layers]. Paths:
  `embeddings/{word,position,type}/embedding`, `embeddings/{norm,project}`;
  `layers/attention/{query,key,value,position_key,position_query}`,
  `layers/{attention_out,attention_norm,up,down,norm}`; `relative/embedding`,
  `relative_norm`; `conv`, `conv_norm`.

  Attributes:
    config: the architecture, see `read_config`.
    dtype: compute dtype, float32 or bfloat16. Norms, softmax and the result are
      float32.
    remat: recompute each layer in the backward pass to save memory.
    dropout: dropout rate of hidden states and attention weights; None uses the two
      rates in the config.
    kernel: computes attention in passes without dropout; None for plain XLA. Passes
      that get an `embedding` are plain, since kernels have no forward-mode derivative.
    unroll: layers in each round of the compiled loop over the layers. Unrolled layers
      need no copies of what the backward pass reads, but take longer to compile. With
      `remat`, it should be 1.
    hashed: dropout takes its random bits from a hash (`models.dropout.hashed`).
    dot: multiplies hidden states with the kernels of the layers, in place of
      `jax.lax.dot_general`; see `sharding.make_dot`.
  """

  config: EncoderConfig
  dtype: jnp.dtype = jnp.float32
  remat: bool = False
  dropout: float | None = None
  kernel: Kernel | None = None
  unroll: int = 1
  hashed: bool = False
  dot: Callable[..., Array] | None = None

  def setup(self):
    config = self.config
    self.embeddings = _Embeddings(config)
    self.layers = nn.scan(
      nn.remat(_Layer, prevent_cse=False) if self.remat else _Layer,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      in_axes=(0, nn.broadcast),
      length=config.num_hidden_layers,
      unroll=self.unroll,
      # The check traces each layer twice. Without it, `init` draws other numbers.
      check_constancy_invariants=self.is_initializing(),
    )(config, self.dtype, self._rates, self.kernel, self.dot)
    if config.relative_attention:
      self.relative = nn.Embed(
        2 * config.relative_span,
        config.hidden_size,
        embedding_init=nn.initializers.normal(config.initializer_range),
      )
      if config.norm_rel_ebd == "layer_norm":
        self.relative_norm = _norm(config)
    if config.conv_kernel_size:
      self.conv = _Convolution(config, self.dtype)
      self.conv_norm = _Affine(config.hidden_size)

  @property
  def _rates(self) -> tuple[float, float]:
    """Dropout rates of hidden states and of attention weights."""
    if self.dropout is not None:
      return self.dropout, self.dropout
    return self.config.hidden_dropout_prob, self.config.attention_probs_dropout_prob

  def embed(self, ids: Array) -> Array:
    """Word embeddings, f32 [n, L, E], of ids i32 [n, L]."""
    return self.embeddings.word(ids)

  def __call__(
    self,
    ids: Array,
    mask: Array,
    kind: Array | None = None,
    embedding: Array | None = None,
    deterministic: bool = True,
    mix: tuple[Array, Array, Array] | None = None,
  ) -> Array:
    """Computes the last hidden states.

    Args:
      ids: i32 [n, L].
      mask: bool or integer [n, L]; 0 is padding, and a positive number identifies the
        text that the token belongs to. The tokens of a text must be contiguous.
        Attention stays within a text, and positions restart with each text. In the
        padded layout, the mask has only 0 and 1.
      kind: i32 [n, L], token types; None for all 0. Models without types ignore it.
      embedding: f32 [n, L, E], replaces `embed(ids)`.
      deterministic: turns dropout off. If False, `rngs={"dropout": key}` is required.
      mix: (partner i32 [n], share f32 [] or [n], layer i32 []). After layer `layer` (0
        for the embeddings), row i becomes share * row i + (1 - share) * row
        partner[i], where padding counts as zeros. The later layers use the union of
        the two masks. This needs the padded layout.

    Returns:
      f32 [n, L, D]. The values at padding are finite but meaningless.

    Raises:
      UserError: L exceeds the number of position embeddings.
    """
    config = self.config
    limit = config.max_length
    if limit is not None and ids.shape[-1] > limit:
      raise UserError(
        f"rows of {ids.shape[-1]} tokens, but the encoder has positions for {limit};"
        f" set max_length to {limit} or less, or use a DeBERTa-v3"
      )
    segment, layers = mask.astype(jnp.int32), config.num_hidden_layers
    per_layer = {"layer": jnp.arange(1, layers + 1, dtype=jnp.int32)}
    keys = None, None  # for the embeddings and for the convolution
    if not deterministic and any(self._rates):
      # One key per use of dropout: 2 before the layers, and 4 in each layer.
      keys = jax.random.split(self.make_rng("dropout"), 2 + 4 * layers)
      if self.hashed:
        keys = hash_seeds(keys)
      per_layer["keys"] = keys[2:].reshape(layers, 4, *keys.shape[1:])
    x = self.embeddings(ids, segment, kind, embedding)  # f32 [n, L, D]
    x = dropout(x, self._rates[0], keys[0]).astype(self.dtype)

    shared = {} if embedding is None else {"plain": ()}
    if config.conv_kernel_size:
      shared["conv"] = self.conv(x, segment, self._rates[0], keys[1])
      shared["conv_norm"] = self.conv_norm()
    if config.relative_attention:
      table = self.relative.embedding  # f32 [2 span, D]
      if config.norm_rel_ebd == "layer_norm":
        table = self.relative_norm(table)
      shared["relative"] = table.astype(self.dtype)
    if mix is not None:
      shared["mix"] = mix
      x, segment = _mix(x, segment, jnp.int32(0), mix)
    (x, _), _ = self.layers((x, segment), per_layer, shared)
    return x.astype(jnp.float32)


class _Embeddings(nn.Module):
  config: EncoderConfig

  def setup(self):
    config = self.config
    init = nn.initializers.normal(config.initializer_range)
    table = functools.partial(
      nn.Embed, features=config.embedding_size, embedding_init=init
    )
    self.word = table(config.vocab_size)
    if config.position_biased_input:
      self.position = table(config.max_position_embeddings)
    if config.type_vocab_size:
      self.type = table(config.type_vocab_size)
    if config.embedding_size != config.hidden_size:
      self.project = nn.Dense(config.hidden_size, use_bias=False, kernel_init=init)
    self.norm = _norm(config)

  def __call__(self, ids, segment, kind, embedding):
    config = self.config
    x = self.word(ids) if embedding is None else embedding  # f32 [n, L, E]
    if config.position_biased_input:
      x = x + self.position(positions(segment))
    if config.type_vocab_size:
      kind = jnp.zeros_like(ids) if kind is None else kind
      # With a single type, a second segment gets the type of the first.
      x = x + self.type(jnp.minimum(kind, config.type_vocab_size - 1))
    if config.embedding_size != config.hidden_size:
      x = self.project(x)
    return self.norm(x)  # f32 [n, L, D]


class _Layer(nn.Module):
  """One layer, with the signature that nn.scan expects."""

  config: EncoderConfig
  dtype: jnp.dtype
  rates: tuple[float, float]
  kernel: Kernel | None
  dot: Callable[..., Array] | None

  @nn.compact
  def __call__(self, carry, per_layer, shared):
    config, rates = self.config, self.rates
    x, segment = carry  # [n, L, D], i32 [n, L]
    keys = per_layer.get("keys", [None] * 4)
    init = nn.initializers.normal(config.initializer_range)
    dense = functools.partial(
      nn.Dense, dtype=self.dtype, kernel_init=init, dot_general=self.dot
    )
    kernel = None if "plain" in shared else self.kernel
    attention = SelfAttention(config, dense, kernel, name="attention")
    y = attention(x, segment, shared.get("relative"), rates, keys[:2])
    y = dropout(dense(config.hidden_size, name="attention_out")(y), rates[0], keys[2])
    y = _norm(config, "attention_norm")(x + y).astype(self.dtype)
    z = ACTIVATIONS[config.hidden_act](dense(config.intermediate_size, name="up")(y))
    z = dropout(dense(config.hidden_size, name="down")(z), rates[0], keys[3])
    x = _norm(config, "norm")(y + z)  # f32
    if "conv" in shared:
      # Only the first layer adds the convolution of the embeddings. With `where`, all
      # layers run the same program, as the scan requires.
      joined = _normalise(x + shared["conv"], *shared["conv_norm"], config)
      x = jnp.where(per_layer["layer"] == 1, joined, x)
    x = x.astype(self.dtype)
    if "mix" in shared:
      x, segment = _mix(x, segment, per_layer["layer"], shared["mix"])
    return (x, segment), None


class _Convolution(nn.Module):
  """DeBERTa-v2's convolution over the embeddings, masked at text borders.

  Padding and the tokens of other texts count as 0. (transformers sets the embeddings of
  padding to 0.)
  """

  config: EncoderConfig
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, segment, rate, key):
    config = self.config
    size, groups = config.conv_kernel_size, config.conv_groups
    n, length, width = x.shape
    init = nn.initializers.normal(config.initializer_range)
    kernel = self.param("kernel", init, (size, width // groups, width))
    total = self.param("bias", nn.initializers.zeros, (width,))
    kernel = kernel.reshape(size, width // groups, groups, -1).astype(self.dtype)
    half = size // 2
    padded = jnp.pad(x, ((0, 0), (half, half), (0, 0)))
    segments = jnp.pad(segment, ((0, 0), (half, half)))
    for k in range(size):
      neighbour = padded[:, k : k + length]  # token i + k - half
      same_text = segments[:, k : k + length] == segment
      neighbour = jnp.where(same_text[..., None], neighbour, 0)
      neighbour = neighbour.reshape(n, length, groups, -1)
      product = jnp.einsum("nlgi,igo->nlgo", neighbour, kernel[k])
      total = total + product.reshape(n, length, width)
    return ACTIVATIONS[config.conv_act](dropout(total, rate, key))  # f32 [n, L, D]


class _Affine(nn.Module):
  """Scale and bias of a layer norm; `_normalise` applies them inside the scan."""

  width: int

  @nn.compact
  def __call__(self):
    return (
      self.param("scale", nn.initializers.ones, (self.width,)),
      self.param("bias", nn.initializers.zeros, (self.width,)),
    )


def positions(segment: Array) -> Array:
  """Position of each token within its text, i32 [n, L]; 0 at padding."""
  index = jnp.arange(segment.shape[-1], dtype=jnp.int32)
  before = jnp.pad(segment[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
  start = jax.lax.cummax(jnp.where(segment != before, index, 0), axis=1)
  return jnp.where(segment > 0, index - start, 0)


def _norm(config: EncoderConfig, name: str | None = None) -> nn.LayerNorm:
  # The fast variance, E x^2 - (E x)^2, is too imprecise to reproduce torch's outputs.
  return nn.LayerNorm(
    config.layer_norm_eps, dtype=jnp.float32, use_fast_variance=False, name=name
  )


def _normalise(x: Array, scale: Array, bias: Array, config: EncoderConfig) -> Array:
  centred = x - x.mean(-1, keepdims=True)
  variance = jnp.square(centred).mean(-1, keepdims=True)
  return centred * jax.lax.rsqrt(variance + config.layer_norm_eps) * scale + bias


def _mix(x: Array, segment: Array, layer: Array, mix) -> tuple[Array, Array]:
  partner, share, at = mix
  share = jnp.broadcast_to(share, x.shape[:1])[:, None, None].astype(x.dtype)
  # The hidden states at padding are meaningless and depend on the row length.
  real = jnp.where(segment[..., None] > 0, x, 0)
  mixed = share * real + (1 - share) * real[partner]
  union = jnp.maximum(segment, segment[partner])
  return jnp.where(at == layer, mixed, x), jnp.where(at == layer, union, segment)
