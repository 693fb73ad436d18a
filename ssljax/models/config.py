"""What a Hugging Face config.json asks of the encoder, checked, as a frozen value."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ssljax.errors import UserError

FAMILIES = ("bert", "deberta-v2")  # model_type; DeBERTa-v3 says deberta-v2 as well
ACTIVATIONS = (
  "gelu",
  "gelu_new",
  "gelu_pytorch_tanh",
  "gelu_fast",
  "gelu_python",
  "quick_gelu",
  "relu",
  "silu",
  "swish",
  "tanh",
  "sigmoid",
  "linear",
)

_COUNTS = (
  "vocab_size",
  "hidden_size",
  "num_hidden_layers",
  "num_attention_heads",
  "intermediate_size",
  "max_position_embeddings",
)

# Keys that change the computation in a way this encoder does not follow, and the only
# values it accepts.
_UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
  "position_embedding_type": (None, "absolute"),
  "is_decoder": (None, False),
  "add_cross_attention": (None, False),
  "z_steps": (None, 0, 1),
  "quantization_config": (None,),
  "pruned_heads": (None, {}),
  "talking_head": (None, False),
}

# Defaults of the two families where they differ, as in transformers.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
  "bert": {},
  "deberta-v2": {
    "vocab_size": 128100,
    "hidden_size": 1536,
    "num_hidden_layers": 24,
    "num_attention_heads": 24,
    "intermediate_size": 6144,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
    "pooler_hidden_act": "gelu",
  },
}


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
  """Field names are those of config.json; only `labels` and the last three differ."""

  model_type: str = "bert"
  vocab_size: int = 30522
  hidden_size: int = 768
  num_hidden_layers: int = 12
  num_attention_heads: int = 12
  intermediate_size: int = 3072
  hidden_act: str = "gelu"
  layer_norm_eps: float = 1e-12
  initializer_range: float = 0.02
  max_position_embeddings: int = 512
  type_vocab_size: int = 2  # 0: no token types
  pad_token_id: int = 0
  embedding_size: int = 0  # 0: hidden_size
  hidden_dropout_prob: float = 0.1
  attention_probs_dropout_prob: float = 0.1
  # DeBERTa
  position_biased_input: bool = True  # absolute positions are added to the input
  relative_attention: bool = False
  pos_att_type: tuple[str, ...] = ()  # of "c2p", "p2c"
  position_buckets: int = -1  # < 1: distances are not bucketed
  max_relative_positions: int = -1  # < 1: max_position_embeddings
  share_att_key: bool = False
  norm_rel_ebd: str = "none"
  conv_kernel_size: int = 0  # 0: no convolution
  conv_groups: int = 1
  conv_act: str = "tanh"
  # the head of ForSequenceClassification
  pooler_hidden_act: str = "tanh"
  pooler_dropout: float = 0.0
  classifier_dropout: float | None = None  # None: hidden_dropout_prob
  labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")

  def __post_init__(self):
    if not self.embedding_size:
      object.__setattr__(self, "embedding_size", self.hidden_size)
    if self.max_relative_positions < 1:
      object.__setattr__(self, "max_relative_positions", self.max_position_embeddings)
    self._check()

  @property
  def max_length(self) -> int | None:
    """The longest text in tokens; None where only relative positions count."""
    return self.max_position_embeddings if self.position_biased_input else None

  @property
  def relative_span(self) -> int:
    """Relative positions -span .. span - 1 have an embedding each."""
    if self.position_buckets > 0:
      return self.position_buckets
    return self.max_relative_positions

  @property
  def costly_length(self) -> float:
    """Tokens of a row in which attention multiplies as often as the rest of a layer.

    For a token, the rest is 4 D^2 + 2 D I; attention is L D for the scores, for each
    relative term, and for the weighted values.
    """
    dense = 4 * self.hidden_size + 2 * self.intermediate_size
    return dense / (2 + len(set(self.pos_att_type)))

  @property
  def head_dropout(self) -> float:
    """Dropout before the classifier of ForSequenceClassification."""
    if self.classifier_dropout is None:
      return self.hidden_dropout_prob
    return self.classifier_dropout

  def _check(self):
    if self.model_type not in FAMILIES:
      raise UserError(
        f"model_type {self.model_type!r} is not supported: take an encoder of type"
        f" {' or '.join(FAMILIES)}"
      )
    for name in _COUNTS:
      if getattr(self, name) < 1:
        raise UserError(f"{name}={getattr(self, name)} is below 1")
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
      if not 0 <= getattr(self, name) <= 0.998:  # a rate of 1 leaves nothing
        raise UserError(f"{name}={getattr(self, name)} is not in [0, 0.998]")
    if self.hidden_size % self.num_attention_heads:
      raise UserError(
        f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads"
        f" {self.num_attention_heads}"
      )
    for name in ("hidden_act", "conv_act", "pooler_hidden_act"):
      if getattr(self, name) not in ACTIVATIONS:
        raise UserError(
          f"{name} {getattr(self, name)!r} is not supported: one of"
          f" {', '.join(ACTIVATIONS)}"
        )
    if unknown := set(self.pos_att_type) - {"c2p", "p2c"}:
      raise UserError(
        f"pos_att_type {sorted(unknown)} is not supported: only c2p and p2c"
      )
    if self.pos_att_type and not self.relative_attention:
      raise UserError("pos_att_type is set but relative_attention is not true")
    if self.relative_attention and 0 < self.position_buckets < 4:
      raise UserError(f"position_buckets {self.position_buckets} is below 4")
    if self.conv_kernel_size and (
      self.conv_kernel_size % 2 == 0
      or self.hidden_size % self.conv_groups
      or self.conv_groups < 1
    ):
      raise UserError(
        f"conv_kernel_size {self.conv_kernel_size} with conv_groups"
        f" {self.conv_groups}: the kernel size must be odd and the groups divide"
        f" hidden_size {self.hidden_size}"
      )
    if self.norm_rel_ebd not in ("none", "layer_norm"):
      raise UserError(
        f"norm_rel_ebd {self.norm_rel_ebd!r} is not supported: none or layer_norm"
      )


def from_json(values: Mapping[str, Any], where: str) -> EncoderConfig:
  """The config of a parsed config.json.

  Args:
    values: the JSON object; keys that do not touch the computation are left aside.
    where: names the file in errors.

  Raises:
    UserError: an unsupported family or option, or a value of the wrong type.
  """
  family = values.get("model_type")
  if family not in FAMILIES:
    raise UserError(
      f"{where}: model_type {family!r} is not supported: take an encoder of type"
      f" {' or '.join(FAMILIES)}"
    )
  for key, accepted in _UNSUPPORTED.items():
    if values.get(key) not in accepted:
      raise UserError(f"{where}: {key}={values[key]!r} is not supported")
  size = values.get("attention_head_size")
  chosen: dict[str, Any] = {"model_type": family, **_DEFAULTS[family]}
  deberta = family == "deberta-v2"
  for field in dataclasses.fields(EncoderConfig):
    if field.name in ("model_type", "labels", "classifier_dropout", "pos_att_type"):
      continue
    if not deberta and field.name in _DEBERTA_ONLY:
      continue  # BertModel does not read them
    value = values.get(field.name)
    if value is not None:
      chosen[field.name] = _typed(value, field.type, f"{where}: {field.name}")
  if deberta:
    chosen["norm_rel_ebd"] = _norm(chosen.get("norm_rel_ebd", "none"))
    chosen["pos_att_type"] = _pos_att_type(values.get("pos_att_type"), where)
  dropout = values.get("cls_dropout" if deberta else "classifier_dropout")
  if dropout is not None:
    chosen["classifier_dropout"] = _typed(dropout, float, f"{where}: dropout")
  chosen["labels"] = _labels(values, where)
  try:
    config = EncoderConfig(**chosen)
  except UserError as error:
    raise UserError(f"{where}: {error}") from None
  pooler = values.get("pooler_hidden_size")
  if deberta and pooler not in (None, config.hidden_size):
    raise UserError(f"{where}: pooler_hidden_size={pooler} is not hidden_size")
  if size is not None and size * config.num_attention_heads != config.hidden_size:
    raise UserError(
      f"{where}: attention_head_size={size} times num_attention_heads is not"
      f" hidden_size {config.hidden_size}"
    )
  return config


def to_json(config: EncoderConfig, architecture: str) -> dict[str, Any]:
  """The config.json that transformers reads back to the same computation.

  Args:
    config: of any family.
    architecture: name of the transformers class that the weights are for.
  """
  values = dataclasses.asdict(config)
  labels = values.pop("labels")
  dropout = values.pop("classifier_dropout")
  if config.model_type == "deberta-v2":
    values["pos_att_type"] = list(config.pos_att_type)
    values["cls_dropout"] = dropout
    values["pooler_hidden_size"] = config.hidden_size
  else:
    for key in _DEBERTA_ONLY | {"pos_att_type"}:
      values.pop(key)
    values["classifier_dropout"] = dropout
  values["architectures"] = [architecture]
  values["id2label"] = {str(i): label for i, label in enumerate(labels)}
  values["label2id"] = {label: i for i, label in enumerate(labels)}
  return values


_DEBERTA_ONLY = {
  "embedding_size",
  "position_biased_input",
  "relative_attention",
  "position_buckets",
  "max_relative_positions",
  "share_att_key",
  "norm_rel_ebd",
  "conv_kernel_size",
  "conv_groups",
  "conv_act",
  "pooler_hidden_act",
  "pooler_dropout",
}


def _typed(value: Any, kind: Any, where: str) -> Any:
  good = {
    int: isinstance(value, int) and not isinstance(value, bool),
    float: isinstance(value, int | float) and not isinstance(value, bool),
    bool: isinstance(value, bool),
    str: isinstance(value, str),
  }[kind]
  if not good:
    raise UserError(f"{where}={value!r} is not of type {kind.__name__}")
  return kind(value)


def _norm(value: str) -> str:
  # A list with "|"; transformers looks for layer_norm in it and ignores the rest.
  parts = [part.strip() for part in value.lower().split("|")]
  return "layer_norm" if "layer_norm" in parts else value.lower().strip()


def _pos_att_type(value: Any, where: str) -> tuple[str, ...]:
  if value is None or value == "":
    return ()
  parts = value.lower().split("|") if isinstance(value, str) else value
  if not isinstance(parts, list | tuple) or not all(isinstance(p, str) for p in parts):
    raise UserError(f"{where}: pos_att_type={value!r} is not a list of strings")
  return tuple(part.strip() for part in parts)


def _labels(values: Mapping[str, Any], where: str) -> tuple[str, ...]:
  names = values.get("id2label")
  if names is None:
    count = _typed(values.get("num_labels", 2), int, f"{where}: num_labels")
    return tuple(f"LABEL_{i}" for i in range(count))
  try:
    numbered = {int(key): str(name) for key, name in names.items()}
    return tuple(numbered[i] for i in range(len(numbered)))
  except (AttributeError, ValueError, KeyError):
    raise UserError(
      f"{where}: id2label must map 0 .. C - 1 to names, it is {names!r}"
    ) from None
