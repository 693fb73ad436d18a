"""Encoders: `load_encoder` gives a Linen module and its pretrained parameters."""

from typing import Any

import jax.numpy as jnp

from ssljax.assets.encoders import resolve
from ssljax.models.config import EncoderConfig
from ssljax.models.encoder import Encoder
from ssljax.models.hf import load_params, read_config, save_params

__all__ = [
  "Encoder",
  "EncoderConfig",
  "load_encoder",
  "load_params",
  "read_config",
  "resolve",
  "save_params",
]


def load_encoder(
  folder_or_name: str, dtype: str = "float32", **options: Any
) -> tuple[Encoder, dict[str, Any]]:
  """A pretrained encoder from a folder with config.json and safetensors, or by name.

  Args:
    folder_or_name: a folder, a name of the asset manifest, or one of the hub.
    dtype: compute dtype, "float32" or "bfloat16"; parameters are float32.
    **options: `remat` and `dropout` of `Encoder`.

  Returns:
    (encoder, params): `encoder.apply({"params": params}, ids, mask)` gives the last
    hidden states, f32 [n, L, D], in evaluation mode.

  Raises:
    UserError: see `resolve`, `read_config` and `load_params`.
  """
  folder = resolve(folder_or_name)
  config = read_config(folder)
  params, _ = load_params(folder, config)
  return Encoder(config, dtype=jnp.dtype(dtype), **options), params
