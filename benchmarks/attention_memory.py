"""Counts the memory of attention in the forward and backward pass, by the compiler.

  python -m benchmarks.attention_memory --json=attention_memory.json

For each encoder and row length, the command compiles the gradient with respect to the
parameters for rows of 4,096 tokens in all, with dropout: once as it is, and once with
attention replaced by the product q * k * v. Like a kernel that stores no scores, this
product needs only q, k and v in the backward pass. The difference is what scores,
relative terms, probabilities and dropout masks take, and the most that a kernel could
save. `layer` has a single layer, `remat` all layers with `--config.remat=true`.

The figures are XLA's for the CPU, in MiB; nothing runs, and no weights are needed.
Embedding tables are small, since their gradients have nothing to do with attention.
"""

import argparse
import dataclasses
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
from flax import linen as nn

from benchmarks.architectures import ENCODERS
from ssljax.models import Encoder, EncoderConfig
from ssljax.models import encoder as encoder_module
from ssljax.models.attention import SelfAttention
from ssljax.runtime.json_files import write_json

TOKENS = 4096
MIB = 2**20
# The generated code may be slow; buffers are assigned before it is generated.
QUICKLY = {"xla_backend_optimization_level": 0}


class WithoutScores(SelfAttention):
  """Attention without scores, with the parameters of BERT's attention."""

  @nn.compact
  def __call__(self, x, segment, relative, rates, keys):
    width = self.config.hidden_size
    names = ("query", "key", "value")
    q, k, v = (self.dense(width, name=name)(x) for name in names)
    return q * k * v


def temporary_bytes(
  config: EncoderConfig, length: int, dtype: str, remat: bool, attention: type
) -> int:
  """The compiler's count of temporary buffers in a forward and backward pass."""
  with mock.patch.object(encoder_module, "SelfAttention", attention):
    encoder = Encoder(config, jnp.dtype(dtype), remat)
    ids = jax.ShapeDtypeStruct((TOKENS // length, length), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0, impl="rbg"))
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), ids, ids)

    def loss(params, ids, segment, key):
      hidden = encoder.apply(
        params, ids, segment, deterministic=False, rngs={"dropout": key}
      )
      return jnp.square(hidden).sum()

    lowered = jax.jit(jax.grad(loss)).lower(shapes, ids, ids, key)
    return lowered.compile(QUICKLY).memory_analysis().temp_size_in_bytes


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--encoders", default="minilm,bert-base,deberta-v3-base")
  parser.add_argument("--lengths", default="512,1024")
  parser.add_argument("--dtype", default="float32")
  parser.add_argument("--json", type=Path)
  options = parser.parse_args()
  lines = []
  print("encoder           tokens  pass     plain  without scores  share of attention")
  for name in options.encoders.split(","):
    for length in map(int, options.lengths.split(",")):
      small = {"vocab_size": 128, "max_position_embeddings": max(512, length)}
      config = dataclasses.replace(ENCODERS[name], **small)
      one = dataclasses.replace(config, num_hidden_layers=1)
      passes = {
        "layer": (one, False),
        "model": (config, False),
        "remat": (config, True),
      }
      for kind, (architecture, remat) in passes.items():
        plain, without = (
          temporary_bytes(architecture, length, options.dtype, remat, attention) / MIB
          for attention in (SelfAttention, WithoutScores)
        )
        line = {
          "encoder": name,
          "length": length,
          "dtype": options.dtype,
          "pass": kind,
          "plain_mib": round(plain, 1),
          "without_scores_mib": round(without, 1),
        }
        lines.append(line)
        print(
          f"{name:17} {length:6}  {kind:6} {plain:7.0f} {without:15.0f}"
          f" {1 - without / plain:19.0%}",
          flush=True,
        )
  if options.json:
    write_json(options.json, lines)


if __name__ == "__main__":
  main()
