"""Encoders by name: the sizes in their config.json. No weights are needed."""

import functools

from ssljax.models import EncoderConfig

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
  "minilm": EncoderConfig(
    hidden_size=384,
    num_hidden_layers=6,
    num_attention_heads=12,
    intermediate_size=1536,
  ),
  "bert-base": EncoderConfig(),
  "deberta-v3-base": _V3(),
  "deberta-v3-large": _V3(
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
  ),
}
