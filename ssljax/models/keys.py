"""Maps the tensor names of Hugging Face checkpoints to parameters.

hf.py loads and saves with the same table, so that a saved checkpoint has the tensors of
the original. Tensors without a parameter are listed in `IGNORED`, with a reason.
"""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import traverse_util

from ssljax.models.config import EncoderConfig
from ssljax.models.encoder import Encoder


class Key(NamedTuple):
  """A parameter and its tensor. `{layer}` in `theirs`: layers stacked along axis 0."""

  ours: tuple[str, ...]  # path within the encoder, or within the tree for a head
  theirs: str  # without the prefix `bert.` or `deberta.`
  transform: str = "same"  # or "reverse", which reverses the axes
  part: str = "encoder"  # "pooler" | "classifier"


# Tensors that the encoder does not use: (pattern, reason).
IGNORED: tuple[tuple[str, str], ...] = (
  (r"embeddings\.(position_ids|token_type_ids)", "a buffer, not a weight"),
  (r"cls\..*", "head of the pretraining task"),
  (r"(lm|mask)_predictions\..*", "head of the pretraining task"),
  (r"(lm_head|generator|discriminator_predictions)\..*", "head of another task"),
  (r"(qa_outputs|logits_proj|score)\..*", "head of another task"),
)
_HEAD = r"(pooler\.dense|classifier)\..*"
_POSITION = r"embeddings\.position_embeddings\.weight"

PREFIX = {"bert": "bert.", "deberta-v2": "deberta."}


def key_table(config: EncoderConfig) -> tuple[Key, ...]:
  """The key table of a config, with the head of ForSequenceClassification."""
  deberta = config.model_type == "deberta-v2"
  table = [
    Key(("embeddings", "word", "embedding"), "embeddings.word_embeddings.weight")
  ]
  if config.position_biased_input:
    position = ("embeddings", "position", "embedding")
    table.append(Key(position, "embeddings.position_embeddings.weight"))
  if config.type_vocab_size:
    kind = ("embeddings", "type", "embedding")
    table.append(Key(kind, "embeddings.token_type_embeddings.weight"))
  table += _norm(("embeddings", "norm"), "embeddings.LayerNorm")
  if config.embedding_size != config.hidden_size:
    project = ("embeddings", "project", "kernel")
    table.append(Key(project, "embeddings.embed_proj.weight", "reverse"))

  names = ("query_proj", "key_proj", "value_proj") if deberta else _BERT_NAMES
  layer = "encoder.layer.{layer}"
  for ours, theirs in zip(_BERT_NAMES, names, strict=True):
    path = ("layers", "attention", ours)
    table += _dense(path, f"{layer}.attention.self.{theirs}")
  if config.relative_attention and not config.share_att_key:
    for kind, ours, theirs in (
      ("c2p", "position_key", "pos_key_proj"),
      ("p2c", "position_query", "pos_query_proj"),
    ):
      if kind in config.pos_att_type:
        path = ("layers", "attention", ours)
        table += _dense(path, f"{layer}.attention.self.{theirs}")
  table += _dense(("layers", "attention_out"), f"{layer}.attention.output.dense")
  table += _norm(("layers", "attention_norm"), f"{layer}.attention.output.LayerNorm")
  table += _dense(("layers", "up"), f"{layer}.intermediate.dense")
  table += _dense(("layers", "down"), f"{layer}.output.dense")
  table += _norm(("layers", "norm"), f"{layer}.output.LayerNorm")

  if config.relative_attention:
    table.append(Key(("relative", "embedding"), "encoder.rel_embeddings.weight"))
    if config.norm_rel_ebd == "layer_norm":
      table += _norm(("relative_norm",), "encoder.LayerNorm")
  if config.conv_kernel_size:
    table.append(Key(("conv", "kernel"), "encoder.conv.conv.weight", "reverse"))
    table.append(Key(("conv", "bias"), "encoder.conv.conv.bias"))
    table += _norm(("conv_norm",), "encoder.conv.LayerNorm")

  table += _dense(("pooler",), "pooler.dense", part="pooler")
  table += _dense(("classifier",), "classifier", part="classifier")
  return tuple(table)


_BERT_NAMES = ("query", "key", "value")


def _dense(ours: tuple[str, ...], theirs: str, part: str = "encoder") -> list[Key]:
  return [
    Key((*ours, "kernel"), f"{theirs}.weight", "reverse", part),
    Key((*ours, "bias"), f"{theirs}.bias", part=part),
  ]


def _norm(ours: tuple[str, ...], theirs: str) -> list[Key]:
  return [
    Key((*ours, "scale"), f"{theirs}.weight"),
    Key((*ours, "bias"), f"{theirs}.bias"),
  ]


def plain_name(name: str, config: EncoderConfig) -> str:
  """The name of a tensor in the key table: no prefix, modern LayerNorm names."""
  return modern_name(name.removeprefix(PREFIX[config.model_type]))


def saved_name(key: Key, config: EncoderConfig, with_head: bool) -> str:
  """The name of a tensor in a checkpoint with a head (prefixed) or without."""
  # The pooler belongs to the classifier in DeBERTa, and to the encoder in BERT.
  outside = key.part == "classifier" or (
    key.part == "pooler" and config.model_type == "deberta-v2"
  )
  return (
    key.theirs if outside or not with_head else PREFIX[config.model_type] + key.theirs
  )


def modern_name(name: str) -> str:
  """Renames the gamma and beta of old checkpoints' LayerNorms to weight and bias."""
  name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
  return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def is_ignored(name: str, config: EncoderConfig, with_head: bool) -> bool:
  """Whether a tensor is deliberately not loaded."""
  patterns = [pattern for pattern, _ in IGNORED]
  if not with_head:
    patterns.append(_HEAD)
  if not config.position_biased_input:
    patterns.append(_POSITION)  # DeBERTa-v3 has them, but its config turns them off
  name = plain_name(name, config)
  return any(re.fullmatch(pattern, name) for pattern in patterns)


def param_shapes(config: EncoderConfig) -> dict[tuple[str, ...], tuple[int, ...]]:
  """The shape of every parameter, by `Key.ours`."""
  token = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  tree = jax.eval_shape(Encoder(config).init, jax.random.key(0), token, token)
  shapes = {
    path: leaf.shape
    for path, leaf in traverse_util.flatten_dict(tree["params"]).items()
  }
  width, classes = config.hidden_size, len(config.labels)
  shapes |= {("pooler", "kernel"): (width, width), ("pooler", "bias"): (width,)}
  shapes |= {
    ("classifier", "kernel"): (width, classes),
    ("classifier", "bias"): (classes,),
  }
  return shapes
