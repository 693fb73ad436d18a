"""EncoderConfig: reads, checks and writes the config.json of Hugging Face encoders."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from ssljax import options
from ssljax.errors import UserError
from ssljax.models.activations import ACTIVATIONS
from ssljax.options import Count, Natural

# Keys of features that the encoder doesn't implement, with the accepted values.
_UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
  "position_embedding_type": (None, "absolute"),
  "is_decoder": (None, False),
  "add_cross_attention": (None, False),
  "z_steps": (None, 0, 1),
  "quantization_config": (None,),
  "pruned_heads": (None, {}),
  "talking_head": (None, False),
}

# Defaults of transformers for DeBERTa that differ from the ones of EncoderConfig.
_DEBERTA_DEFAULTS: Mapping[str, Any] = {
  "vocab_size": 128100,
  "hidden_size": 1536,
  "num_hidden_layers": 24,
  "num_attention_heads": 24,
  "intermediate_size": 6144,
  "type_vocab_size": 0,
  "layer_norm_eps": 1e-7,
  "pooler_hidden_act": "gelu",
}

# What mask, softmax and dropout cost for each score, in multiplications: estimated from
# benchmarks.profile.
SCORE = 200

_Rate = Annotated[float, options.Range(0.0, 0.998)]  # 1 would drop everything


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
  """Architecture of an encoder. Most fields have the same name in config.json."""

  model_type: Literal["bert", "deberta-v2"] = "bert"  # DeBERTa-v3 has "deberta-v2"
  vocab_size: Count = 30522
  hidden_size: Count = 768
  num_hidden_layers: Count = 12
  num_attention_heads: Count = 12
  intermediate_size: Count = 3072
  hidden_act: str = "gelu"
  layer_norm_eps: float = 1e-12
  initializer_range: float = 0.02
  max_position_embeddings: Count = 512
  type_vocab_size: Natural = 2  # 0: no token types
  pad_token_id: int = 0
  hidden_dropout_prob: _Rate = 0.1
  attention_probs_dropout_prob: _Rate = 0.1
  # Head of ForSequenceClassification
  classifier_dropout: float | None = None  # None: hidden_dropout_prob
  labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
  # All fields below are only for DeBERTa
  embedding_size: Natural = 0  # 0: hidden_size
  position_biased_input: bool = True  # adds absolute positions to the input
  relative_attention: bool = False
  pos_att_type: tuple[str, ...] = ()  # any of "c2p", "p2c"
  position_buckets: int = -1  # below 1: distances are not bucketed
  max_relative_positions: int = -1  # below 1: max_position_embeddings
  share_att_key: bool = False
  norm_rel_ebd: Literal["none", "layer_norm"] = "none"
  conv_kernel_size: Natural = 0  # 0: no convolution
  conv_groups: int = 1
  conv_act: str = "tanh"
  pooler_hidden_act: str = "tanh"
  pooler_dropout: float = 0.0

  def __post_init__(self):
    values = {**vars(self), "classifier_dropout": self.head_dropout}
    scalars = {k: value for k, value in values.items() if not isinstance(value, tuple)}
    try:
      options.check(_OPTIONS, scalars)
    except ValueError as error:
      raise UserError(str(error)) from None
    if self.hidden_size % self.num_attention_heads:
      raise UserError(
        f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads"
        f" {self.num_attention_heads}"
      )
    if self.pos_att_type and not self.relative_attention:
      raise UserError("pos_att_type needs relative_attention=true")
    if self.relative_attention and 0 < self.position_buckets < 4:
      raise UserError(f"position_buckets={self.position_buckets} must be at least 4")
    size, groups = self.conv_kernel_size, self.conv_groups
    if size and (size % 2 == 0 or groups < 1 or self.hidden_size % groups):
      raise UserError(
        f"conv_kernel_size {size} with conv_groups {groups}: the kernel size must be"
        f" odd, and the groups must divide hidden_size {self.hidden_size}"
      )
    if not self.embedding_size:
      object.__setattr__(self, "embedding_size", self.hidden_size)
    if self.max_relative_positions < 1:
      object.__setattr__(self, "max_relative_positions", self.max_position_embeddings)

  @property
  def max_length(self) -> int | None:
    """Maximum number of tokens in a text; None if there are only relative positions."""
    return self.max_position_embeddings if self.position_biased_input else None

  @property
  def relative_span(self) -> int:
    """The distances -span .. span - 1 have embeddings."""
    if self.position_buckets > 0:
      return self.position_buckets
    return self.max_relative_positions

  @property
  def break_even_length(self) -> float:
    """Row length L at which attention takes as long as the rest of a layer.

    Counts the multiplications, as `costly_length` does, and `SCORE` for each score.
    """
    dense = 4 * self.hidden_size + 2 * self.intermediate_size
    terms = 1 + len(set(self.pos_att_type))
    pair = self.hidden_size * (1 + terms) + SCORE * self.num_attention_heads * terms
    return self.hidden_size * dense / pair

  @property
  def costly_length(self) -> float:
    """Row length L at which attention multiplies as much as the rest of a layer.

    The rest of a layer needs 4 D^2 + 2 D I multiplications per token, where I is
    intermediate_size. Attention needs L D for the scores, L D for each relative term,
    and L D for the weighted values.
    """
    dense = 4 * self.hidden_size + 2 * self.intermediate_size
    return dense / (2 + len(set(self.pos_att_type)))

  @property
  def head_dropout(self) -> float:
    """Dropout before the classifier of ForSequenceClassification."""
    if self.classifier_dropout is None:
      return self.hidden_dropout_prob
    return self.classifier_dropout


_OPTIONS = options.describe(EncoderConfig)
_OPTIONS |= {
  name: _OPTIONS[name]._replace(choices=tuple(ACTIVATIONS))
  for name in ("hidden_act", "conv_act", "pooler_hidden_act")
}
_OPTIONS["classifier_dropout"] = _OPTIONS["hidden_dropout_prob"]
_DEBERTA_ONLY = {*itertools.dropwhile(lambda name: name != "embedding_size", _OPTIONS)}


def from_json(values: Mapping[str, Any], where: str) -> EncoderConfig:
  """Builds a config from a parsed config.json.

  Args:
    values: the JSON object. Keys that do not affect the computation are ignored.
    where: name of the file, for error messages.

  Raises:
    UserError: an unsupported family or option, or a value of the wrong type.
  """
  for key, accepted in _UNSUPPORTED.items():
    if values.get(key) not in accepted:
      raise UserError(
        f"{where}: {key}={values[key]!r} is not supported; use another encoder"
      )
  deberta = values.get("model_type") == "deberta-v2"
  converted = {"model_type", "pos_att_type", "labels", "classifier_dropout"}
  # BertModel ignores the keys of DeBERTa.
  skipped = converted if deberta else converted | _DEBERTA_ONLY
  fields: dict[str, Any] = dict(_DEBERTA_DEFAULTS) if deberta else {}
  fields |= {
    name: values[name]
    for name in _OPTIONS
    if name not in skipped and values.get(name) is not None
  }
  if deberta:
    # Several norms may be joined by "|"; transformers looks only for layer_norm.
    norm = str(fields.get("norm_rel_ebd", "none")).lower().strip()
    layer_norm = "layer_norm" in map(str.strip, norm.split("|"))
    fields["norm_rel_ebd"] = "layer_norm" if layer_norm else norm
    fields["pos_att_type"] = _pos_att_type(values.get("pos_att_type"), where)
  dropout = values.get("cls_dropout" if deberta else "classifier_dropout")
  fields |= {"classifier_dropout": dropout, "labels": _labels(values, where)}
  try:
    config = EncoderConfig(values.get("model_type"), **fields)
  except UserError as error:
    raise UserError(f"{where}: {error}") from None
  sizes = {"attention_head_size": config.hidden_size // config.num_attention_heads}
  if deberta:
    sizes["pooler_hidden_size"] = config.hidden_size
  for key, size in sizes.items():
    if values.get(key) not in (None, size):
      raise UserError(f"{where}: {key}={values[key]} must be {size}")
  return config


def to_json(config: EncoderConfig, architecture: str) -> dict[str, Any]:
  """Returns the config.json with which transformers computes the same outputs.

  `architecture` is the transformers class that loads the weights.
  """
  values = dataclasses.asdict(config)
  labels = values.pop("labels")
  dropout = values.pop("classifier_dropout")
  if config.model_type == "deberta-v2":
    values |= {"cls_dropout": dropout, "pooler_hidden_size": config.hidden_size}
  else:
    values = {key: v for key, v in values.items() if key not in _DEBERTA_ONLY}
    values["classifier_dropout"] = dropout
  return values | {
    "architectures": [architecture],
    "id2label": {str(i): label for i, label in enumerate(labels)},
    "label2id": {label: i for i, label in enumerate(labels)},
  }


def _pos_att_type(value: Any, where: str) -> tuple[str, ...]:
  if not value:
    return ()
  types = value.lower().split("|") if isinstance(value, str) else value
  if isinstance(types, list | tuple):
    names = tuple(str(name).strip() for name in types)
    if {*names} <= {"c2p", "p2c"}:
      return names
  raise UserError(f"{where}: pos_att_type={value!r} is not supported; use c2p and p2c")


def _labels(values: Mapping[str, Any], where: str) -> tuple[str, ...]:
  names = values.get("id2label")
  try:
    if names is None:
      return tuple(f"LABEL_{i}" for i in range(values.get("num_labels", 2)))
    by_id = {int(key): str(name) for key, name in names.items()}
    return tuple(by_id[i] for i in range(len(by_id)))
  except (AttributeError, ValueError, KeyError, TypeError):
    raise UserError(
      f"{where}: id2label={names!r} must map 0, 1, … to class names, or num_labels "
      "must be an integer"
    ) from None
