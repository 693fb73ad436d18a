"""Encoders and classifiers in Flax Linen; `load_encoder` loads a pretrained encoder."""

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
  "save_params",
]


def load_encoder(
  folder_or_name: str, dtype: str = "float32", **options: Any
) -> tuple[Encoder, dict[str, Any]]:
  """Loads a pretrained encoder; returns the Linen module and its parameters.

  >>> encoder, params = load_encoder("encoders/tiny")  # or a name on the Hub
  >>> ids = np.ones((2, 8), np.int32)
  >>> hidden = encoder.apply({"params": params}, ids, mask=np.ones_like(ids))
  >>> hidden.shape  # [n, L, D]
  (2, 8, 16)

  `apply` runs in evaluation mode by default.

  Args:
    folder_or_name: a folder with config.json and safetensors, or the name of an encoder
      in the asset manifest or on the Hugging Face Hub.
    dtype: compute dtype, "float32" or "bfloat16"; parameters are float32.
    **options: `remat` and `dropout` of `Encoder`.

  Raises:
    UserError: see `resolve`, `read_config` and `load_params`.
  """
  folder = resolve(folder_or_name)
  config = read_config(folder)
  params, _ = load_params(folder, config)
  return Encoder(config, dtype=jnp.dtype(dtype), **options), params
