"""The key table: which tensor of a Hugging Face checkpoint is which parameter.

One table for each family, read in both directions by hf.py, so that what is saved is
what was loaded. What no parameter stands for is named in `IGNORED`, with a reason.
"""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import traverse_util

from ssljax.models.config import EncoderConfig
from ssljax.models.encoder import Encoder


class Key(NamedTuple):
  """One parameter here and there. `{layer}` in `theirs`: stacked along axis 0."""

  ours: tuple[str, ...]  # path below the encoder, or below the whole tree for a head
  theirs: str  # without the prefix `bert.` or `deberta.`
  transform: str = "same"  # or "reverse": the order of the axes
  part: str = "encoder"  # "pooler" | "classifier"


# Tensors of a checkpoint that an encoder has no use for: (pattern, reason).
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
  """The key table of a config, the head of ForSequenceClassification included."""
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
  """A tensor's name as the table has it: no prefix, LayerNorms in the new spelling."""
  return modern(name.removeprefix(PREFIX[config.model_type]))


def saved_name(key: Key, config: EncoderConfig, headed: bool) -> str:
  """A tensor's name in a checkpoint with a head (prefixed) or without."""
  # DeBERTa's pooler belongs to the classifier, BERT's to the encoder.
  outside = key.part == "classifier" or (
    key.part == "pooler" and config.model_type == "deberta-v2"
  )
  return key.theirs if outside or not headed else PREFIX[config.model_type] + key.theirs


def modern(name: str) -> str:
  """A tensor's name with the newer spelling of LayerNorms."""
  name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
  return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def unused(name: str, config: EncoderConfig, with_head: bool) -> bool:
  """Whether a tensor of a checkpoint is one that we leave aside."""
  patterns = [pattern for pattern, _ in IGNORED]
  if not with_head:
    patterns.append(_HEAD)
  if not config.position_biased_input:
    patterns.append(_POSITION)  # DeBERTa-v3 ships them, its config switches them off
  name = plain_name(name, config)
  return any(re.fullmatch(pattern, name) for pattern in patterns)


def param_shapes(config: EncoderConfig) -> dict[tuple[str, ...], tuple[int, ...]]:
  """Shape of every parameter that the config asks for, by `Key.ours`."""
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
