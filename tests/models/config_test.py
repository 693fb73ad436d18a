"""Reading config.json: defaults, supported options, errors, and writing it back."""

import dataclasses
import json

import pytest

from ssljax.errors import UserError
from ssljax.models import EncoderConfig, read_config
from ssljax.models.config import from_json, to_json
from tests.models.small import configs

# From microsoft/deberta-v3-base and deberta-v2-xlarge.
V3_BASE = {
  "model_type": "deberta-v2",
  "hidden_size": 768,
  "num_hidden_layers": 12,
  "num_attention_heads": 12,
  "intermediate_size": 3072,
  "max_position_embeddings": 512,
  "relative_attention": True,
  "position_buckets": 256,
  "norm_rel_ebd": "layer_norm",
  "share_att_key": True,
  "pos_att_type": "p2c|c2p",
  "layer_norm_eps": 1e-7,
  "max_relative_positions": -1,
  "position_biased_input": False,
  "type_vocab_size": 0,
  "vocab_size": 128100,
}
XLARGE = {
  "model_type": "deberta-v2",
  "attention_head_size": 64,
  "conv_act": "gelu",
  "conv_kernel_size": 3,
  "norm_rel_ebd": "layer_norm",
  "pos_att_type": "p2c|c2p",
  "pooler_hidden_size": 1536,
  "position_buckets": 256,
  "relative_attention": True,
  "share_att_key": True,
}


def test_deberta_v3_base():
  config = from_json(V3_BASE, "config.json")
  assert config.pos_att_type == ("p2c", "c2p")
  assert config.relative_span == 256
  assert config.max_relative_positions == 512
  assert config.max_length is None
  assert config.conv_kernel_size == 0


def test_deberta_v2_xlarge():
  config = from_json(XLARGE, "config.json")
  assert (config.hidden_size, config.num_hidden_layers) == (1536, 24)
  assert (config.conv_kernel_size, config.conv_act) == (3, "gelu")
  assert config.position_biased_input
  assert config.max_length == 512
  assert config.pooler_hidden_act == "gelu"


def test_bert_ignores_the_keys_of_deberta():
  values = {"model_type": "bert", "relative_attention": True, "embedding_size": 3}
  config = from_json(values, "config.json")
  assert config == EncoderConfig()
  assert config.embedding_size == 768
  assert config.max_length == 512


def test_labels_and_dropout_of_the_head():
  names = {"1": "unsafe", "0": "safe", "2": "unsure"}
  values = {**V3_BASE, "id2label": names, "cls_dropout": 0.2, "pooler_dropout": 0}
  config = from_json(values, "config.json")
  assert config.labels == ("safe", "unsafe", "unsure")
  assert config.head_dropout == 0.2
  assert from_json({"model_type": "bert"}, "c").head_dropout == 0.1
  assert len(from_json({"model_type": "bert", "num_labels": 5}, "c").labels) == 5


@configs
def test_to_json_inverts_from_json(config):
  config = dataclasses.replace(config, classifier_dropout=0.3, labels=("a", "b", "c"))
  assert (
    from_json(json.loads(json.dumps(to_json(config, "X"))), "config.json") == config
  )


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"model_type": "roberta"}, "'roberta': it must be one of bert, deberta-v2"),
    ({"model_type": None}, "model_type=None: it must be one of"),
    ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative"),
    ({"is_decoder": True}, "is_decoder=True is not supported"),
    ({"add_cross_attention": True}, "add_cross_attention"),
    ({"z_steps": 2}, "z_steps=2 is not supported"),
    ({"hidden_act": "mish"}, "hidden_act='mish': it must be one of gelu"),
    ({"hidden_size": "768"}, "hidden_size='768': it must be an integer"),
    ({"hidden_size": True}, "hidden_size=True: it must be an integer"),
    ({"hidden_size": 770}, "770 is not a multiple of num_attention_heads 12"),
    ({"num_hidden_layers": 0}, "num_hidden_layers=0: it must be 1 or more"),
    ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob=1.0: it must be 0 to 0.998"),
    ({"cls_dropout": "0.1"}, "classifier_dropout='0.1': it must be a number"),
    ({"pos_att_type": "p2c|p2p"}, "p2p' is not supported; use c2p and p2c"),
    ({"pos_att_type": 3}, "pos_att_type=3 is not supported"),
    ({"relative_attention": False}, "pos_att_type needs relative_attention=true"),
    ({"position_buckets": 2}, "position_buckets=2 must be at least 4"),
    ({"norm_rel_ebd": "batch"}, "norm_rel_ebd='batch': it must be one of"),
    ({"conv_kernel_size": 2}, "conv_kernel_size 2 .*must be odd"),
    ({"conv_kernel_size": 3, "conv_groups": 5}, "conv_groups 5"),
    ({"attention_head_size": 32}, "attention_head_size=32"),
    ({"pooler_hidden_size": 32}, "pooler_hidden_size=32"),
    ({"id2label": {"a": "x"}}, "id2label=.* must map"),
    ({"id2label": {"1": "x"}}, "id2label=.* must map"),
    ({"num_labels": "2"}, "num_labels must be an integer"),
  ],
)
def test_unsupported_configs_are_errors_that_name_the_file(change, message, tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({**V3_BASE, **change}))
  with pytest.raises(UserError, match=message) as error:
    read_config(tmp_path)
  assert str(tmp_path / "config.json") in str(error.value)


def test_unreadable_files_are_errors(tmp_path):
  for folder in (tmp_path / "none", tmp_path):
    with pytest.raises(UserError, match=r"no config.json; give the folder of"):
      read_config(folder)
  for content, message in (("{", "not valid JSON"), ("[1]", "not a JSON object")):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=message):
      read_config(tmp_path)
  (tmp_path / "config.json").write_bytes(b'{"model_type": "\xff"}')
  with pytest.raises(UserError, match="not valid JSON"):
    read_config(tmp_path)


@pytest.mark.parametrize("values", [V3_BASE, {**V3_BASE, "model_type": "bert"}])
def test_at_the_costly_length_attention_costs_as_much_as_the_rest(values):
  config = from_json(values, "config.json")
  width, length = config.hidden_size, config.costly_length
  products = [(width, width)] * 4 + [(width, config.intermediate_size)] * 2
  terms = 2 + len(config.pos_att_type)  # scores, values, relative terms
  rest = sum(a * b for a, b in products)
  assert length * width * terms == pytest.approx(rest)
