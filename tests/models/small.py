"""Small encoders of both families; each option is on in one case and off in another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.models import Encoder, EncoderConfig

SMALL = {
  "vocab_size": 50,
  "hidden_size": 24,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "intermediate_size": 40,
  "max_position_embeddings": 140,
  "hidden_dropout_prob": 0.1,
  "attention_probs_dropout_prob": 0.1,
}
RELATIVE = {
  "model_type": "deberta-v2",
  "relative_attention": True,
  "pos_att_type": ("p2c", "c2p"),
  "type_vocab_size": 0,
}
V3 = {
  **RELATIVE,
  "position_buckets": 8,
  "share_att_key": True,
  "norm_rel_ebd": "layer_norm",
  "position_biased_input": False,
}
CONVOLUTION = {"conv_kernel_size": 3, "conv_act": "gelu"}
CASES = {
  "bert": {},
  "bert-no-types": {"type_vocab_size": 0},
  "v2-absolute": {"model_type": "deberta-v2"},
  "v2": RELATIVE,
  "v2-c2p": {**RELATIVE, "pos_att_type": ("c2p",), "position_buckets": 8},
  "v2-p2c": {**RELATIVE, "pos_att_type": ("p2c",), "type_vocab_size": 2},
  "v3": V3,
  "xlarge": {**V3, **CONVOLUTION, "conv_groups": 2, "embedding_size": 16},
}


configs = pytest.mark.parametrize(
  "config", [EncoderConfig(**SMALL | case) for case in CASES.values()], ids=CASES
)


def make(config, **options):
  """An encoder, and random parameters: initial ones have many zeros and ones."""
  encoder = Encoder(config, **options)
  token = jnp.ones((1, 4), jnp.int32)
  random = np.random.default_rng(0)

  def draw(path, leaf):
    mean = 1 if path[-1].key == "scale" else 0
    return mean + 0.2 * random.standard_normal(leaf.shape, np.float32)

  shapes = jax.eval_shape(encoder.init, jax.random.key(0), token, token)["params"]
  return encoder, jax.tree_util.tree_map_with_path(draw, shapes)


def run(encoder, params, *args, **options):
  """Applies an encoder under jit."""
  apply = lambda params, *args: encoder.apply({"params": params}, *args, **options)
  return np.asarray(jax.jit(apply)(params, *args))
