"""Maps the tensor names of Hugging Face checkpoints to parameters.

hf.py uses the same table to load and to save, so a saved checkpoint has the tensors of
the original. `IGNORED` lists the tensors that have no parameter.
"""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import traverse_util

from ssljax.models.config import EncoderConfig
from ssljax.models.encoder import Encoder


class Key(NamedTuple):
  """A parameter and its tensor; `{layer}`: the layers are stacked along axis 0."""

  ours: str  # path, such as "encoder/embeddings/norm/scale"
  theirs: str  # without the prefix `bert.` or `deberta.`
  reverse: bool = False  # the axes are in reverse order

  @property
  def part(self) -> str:
    """Which part of a classifier: "encoder", "pooler" or "classifier"."""
    return self.ours.partition("/")[0]


# Tensors that the encoder does not use.
IGNORED = (
  r"embeddings\.(position_ids|token_type_ids)",  # buffers, not weights
  # Heads of the pretraining task and of other tasks.
  r"(cls|lm_predictions|mask_predictions|lm_head|generator)\..*",
  r"(discriminator_predictions|qa_outputs|logits_proj|score)\..*",
)
_HEAD = r"(pooler\.dense|classifier)\..*"
_POSITION = r"embeddings\.position_embeddings\.weight"

PREFIX = {"bert": "bert.", "deberta-v2": "deberta."}


def key_table(config: EncoderConfig) -> tuple[Key, ...]:
  """All keys of an encoder with a ForSequenceClassification head."""
  table = [Key("embeddings/word/embedding", "embeddings.word_embeddings.weight")]
  if config.position_biased_input:
    name = "embeddings.position_embeddings.weight"
    table.append(Key("embeddings/position/embedding", name))
  if config.type_vocab_size:
    name = "embeddings.token_type_embeddings.weight"
    table.append(Key("embeddings/type/embedding", name))
  table += _norm("embeddings/norm", "embeddings.LayerNorm")
  if config.embedding_size != config.hidden_size:
    name = "embeddings.embed_proj.weight"
    table.append(Key("embeddings/project/kernel", name, reverse=True))

  suffix = "_proj" if config.model_type == "deberta-v2" else ""
  attention = {name: f"{name}{suffix}" for name in ("query", "key", "value")}
  if config.relative_attention and not config.share_att_key:
    if "c2p" in config.pos_att_type:
      attention["position_key"] = "pos_key_proj"
    if "p2c" in config.pos_att_type:
      attention["position_query"] = "pos_query_proj"
  layer = "encoder.layer.{layer}"
  for ours, theirs in attention.items():
    table += _dense(f"layers/attention/{ours}", f"{layer}.attention.self.{theirs}")
  table += _dense("layers/attention_out", f"{layer}.attention.output.dense")
  table += _norm("layers/attention_norm", f"{layer}.attention.output.LayerNorm")
  table += _dense("layers/up", f"{layer}.intermediate.dense")
  table += _dense("layers/down", f"{layer}.output.dense")
  table += _norm("layers/norm", f"{layer}.output.LayerNorm")

  if config.relative_attention:
    table.append(Key("relative/embedding", "encoder.rel_embeddings.weight"))
    if config.norm_rel_ebd == "layer_norm":
      table += _norm("relative_norm", "encoder.LayerNorm")
  if config.conv_kernel_size:
    table += _dense("conv", "encoder.conv.conv")
    table += _norm("conv_norm", "encoder.conv.LayerNorm")

  encoder = [key._replace(ours=f"encoder/{key.ours}") for key in table]
  head = _dense("pooler", "pooler.dense") + _dense("classifier", "classifier")
  return *encoder, *head


def _dense(ours: str, theirs: str) -> list[Key]:
  kernel = Key(f"{ours}/kernel", f"{theirs}.weight", reverse=True)
  return [kernel, Key(f"{ours}/bias", f"{theirs}.bias")]


def _norm(ours: str, theirs: str) -> list[Key]:
  scale = Key(f"{ours}/scale", f"{theirs}.weight")
  return [scale, Key(f"{ours}/bias", f"{theirs}.bias")]


def plain_name(name: str, config: EncoderConfig) -> str:
  """The name of a tensor in the key table: no prefix, modern names for LayerNorms."""
  return modern_name(name.removeprefix(PREFIX[config.model_type]))


def saved_name(key: Key, config: EncoderConfig, with_head: bool) -> str:
  """The name of a tensor in a file; if there is a head, the encoder has a prefix."""
  # In transformers, the pooler of BERT is a part of the encoder.
  encoder = ("encoder", "pooler") if config.model_type == "bert" else ("encoder",)
  prefixed = with_head and key.part in encoder
  return PREFIX[config.model_type] + key.theirs if prefixed else key.theirs


def modern_name(name: str) -> str:
  """Renames the gamma and beta of old checkpoints' LayerNorms to weight and bias."""
  name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
  return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def is_ignored(name: str, config: EncoderConfig, with_head: bool) -> bool:
  """Whether a tensor is deliberately not loaded."""
  patterns = list(IGNORED)
  if not with_head:
    patterns.append(_HEAD)
  if not config.position_biased_input:
    patterns.append(_POSITION)  # DeBERTa-v3 has this tensor but doesn't use it
  name = plain_name(name, config)
  return any(re.fullmatch(pattern, name) for pattern in patterns)


def param_shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
  """The shape of every parameter, by `Key.ours`."""
  token = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  tree = jax.eval_shape(Encoder(config).init, jax.random.key(0), token, token)["params"]
  flat = traverse_util.flatten_dict({"encoder": tree}, sep="/")
  width, classes = config.hidden_size, len(config.labels)
  return {path: leaf.shape for path, leaf in flat.items()} | {
    "pooler/kernel": (width, width),
    "pooler/bias": (width,),
    "classifier/kernel": (width, classes),
    "classifier/bias": (classes,),
  }
