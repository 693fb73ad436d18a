"""Parity with transformers in torch: random small models and real weights."""

import numpy as np
import pytest

from ssljax.models import Encoder, load_encoder, load_params, read_config, save_params
from tests.models.small import (
  CASES,
  CONVOLUTION,
  RELATIVE,
  SMALL,
  V3,
  configs,
  make,
  run,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LIMIT = 1e-4  # max |difference| of hidden states, float32


def torch_model(case, head=False, **more):
  """A model of transformers with random weights; initial ones have zeros and ones."""
  options = SMALL | case | {"initializer_range": 0.3} | more
  family = options.pop("model_type", "bert")
  if "pos_att_type" in options and not isinstance(options["pos_att_type"], str):
    options["pos_att_type"] = list(options["pos_att_type"])
  config = transformers.AutoConfig.for_model(family, **options)
  auto_class = "AutoModelForSequenceClassification" if head else "AutoModel"
  torch.manual_seed(0)
  model = getattr(transformers, auto_class).from_config(config)
  with torch.no_grad():
    for weight in model.parameters():
      weight.add_(0.1 * torch.randn_like(weight))
  return model.eval()


def texts(config, length, lengths):
  """Random ids, the mask for these lengths, and token types, i32 [n, length]."""
  random = np.random.default_rng(0)
  ids = random.integers(0, config.vocab_size, (len(lengths), length))
  mask = np.arange(length) < np.array(lengths)[:, None]
  kind = random.integers(0, max(config.type_vocab_size, 1), ids.shape)
  return tuple(np.asarray(array, np.int32) for array in (ids, mask, kind))


def torch_inputs(ids, mask, kind):
  arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kind}
  return {name: torch.tensor(array).long() for name, array in arrays.items()}


def torch_hidden(model, ids, mask, kind):
  with torch.no_grad():
    return model(**torch_inputs(ids, mask, kind)).last_hidden_state.numpy()


def difference(model, folder, length, lengths):
  """max |difference| on real tokens between `model` and our encoder."""
  model.save_pretrained(folder)
  encoder, params = load_encoder(folder)
  ids, mask, kind = texts(encoder.config, length, lengths)
  expected = torch_hidden(model, ids, mask, kind)
  return np.abs(run(encoder, params, ids, mask, kind) - expected)[mask > 0].max()


BERT = {
  "plain": {},
  "eps": {"layer_norm_eps": 1e-2},
  "types": {"type_vocab_size": 3},
  "one head": {"num_attention_heads": 1},
  "one layer": {"num_hidden_layers": 1},
} | {
  name: {"hidden_act": name}
  for name in ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "quick_gelu", "relu")
}
DEBERTA = {
  "absolute": CASES["v2-absolute"],
  "no terms": {**RELATIVE, "pos_att_type": []},
  "c2p": {**RELATIVE, "pos_att_type": "c2p"},
  "p2c": {**RELATIVE, "pos_att_type": "p2c", "position_buckets": 8},
  "both": {**RELATIVE, "pos_att_type": "p2c|c2p", "position_buckets": 8},
  "short span": {**RELATIVE, "max_relative_positions": 16},
  "short span, buckets": {**V3, "max_relative_positions": 32},
  "span over length": {**V3, "max_relative_positions": 512, "position_buckets": 64},
  "shared": {**RELATIVE, "share_att_key": True},
  "shared c2p": {**V3, "pos_att_type": "c2p"},
  "norm": {**RELATIVE, "norm_rel_ebd": "layer_norm"},
  "unbiased": {**RELATIVE, "position_biased_input": False},
  "types": {**RELATIVE, "type_vocab_size": 2},
  "eps": {**V3, "layer_norm_eps": 1e-2},
  "project": {**V3, "embedding_size": 16},
  "relu": {**V3, "hidden_act": "relu"},
  "v3": V3,
  "convolution": {**V3, **CONVOLUTION},
  "convolution, tanh": {**RELATIVE, "conv_kernel_size": 5, "conv_act": "tanh"},
  "xlarge": CASES["xlarge"],
}


@pytest.mark.parametrize("case", BERT.values(), ids=BERT)
def test_bert(case, tmp_path):
  assert difference(torch_model(case), tmp_path, 24, (24, 1, 15)) < LIMIT


@pytest.mark.parametrize("case", DEBERTA.values(), ids=DEBERTA)
def test_deberta(case, tmp_path):
  # 131 tokens: more than the exact buckets, two spans, and one block of queries.
  assert difference(torch_model(case), tmp_path, 131, (131, 1, 64)) < LIMIT


@pytest.mark.parametrize("buckets", [4, 5, 8, 256])
@pytest.mark.parametrize("length", [1, 2, 4, 5, 9, 63])
def test_bucket_edges(buckets, length, tmp_path):
  case = {**V3, "position_buckets": buckets, "max_relative_positions": 40}
  if buckets == 256:
    case["max_relative_positions"] = -1
  model = torch_model(case, max_position_embeddings=512, num_hidden_layers=1)
  assert difference(model, tmp_path, length, (length,)) < LIMIT


def test_every_bucket_of_deberta_v3():
  from transformers.models.deberta_v2.modeling_deberta_v2 import (
    make_log_bucket_position,
  )

  from ssljax.models.attention import buckets

  distance = np.arange(-2047, 2048)
  for count, limit in ((256, 512), (256, 1024), (32, 128), (8, 40), (5, 40)):
    expected = make_log_bucket_position(torch.tensor(distance), count, limit)
    np.testing.assert_array_equal(buckets(distance, count, limit), expected.long())


def test_deberta_supports_more_than_512_tokens(tmp_path):
  case = {**V3, "position_buckets": 256, "max_relative_positions": -1}
  model = torch_model(case, max_position_embeddings=512)
  assert difference(model, tmp_path, 1030, (1030, 700)) < LIMIT


@configs
def test_transformers_loads_saved_params(config, tmp_path):
  if config.model_type == "bert" and not config.type_vocab_size:
    return  # BertModel in torch always has token types
  encoder, params = make(config)
  save_params(tmp_path, config, params)
  model = load_torch(transformers.AutoModel, tmp_path)
  ids, mask, kind = texts(config, 24, (24, 1, 15))
  expected = torch_hidden(model, ids, mask, kind)
  assert (
    np.abs(run(encoder, params, ids, mask, kind) - expected)[mask > 0].max() < LIMIT
  )


def load_torch(auto_class, folder):
  """Loads a model in evaluation mode, without the report of new weights."""
  transformers.utils.logging.set_verbosity_error()
  return auto_class.from_pretrained(folder).eval()


def logits(params, hidden, config):
  """The head of ForSequenceClassification on the first token, f32 [n, C]."""
  pooled = hidden[:, 0] @ params["pooler"]["kernel"] + params["pooler"]["bias"]
  if config.model_type == "bert":
    pooled = np.tanh(pooled)
  else:
    pooled = torch.nn.functional.gelu(torch.tensor(np.asarray(pooled))).numpy()
  return pooled @ params["classifier"]["kernel"] + params["classifier"]["bias"]


@pytest.mark.parametrize("case", [{}, V3], ids=["bert", "v3"])
def test_a_classifier_is_loaded_and_saved(case, tmp_path):
  model = torch_model(case, head=True, num_labels=3)
  model.save_pretrained(tmp_path / "theirs")
  config = read_config(tmp_path / "theirs")
  params, ignored = load_params(tmp_path / "theirs", config, with_head=True)
  assert not ignored
  assert set(params) == {"encoder", "pooler", "classifier"}
  ids, mask, kind = texts(config, 12, (12, 5))
  hidden = run(Encoder(config), params["encoder"], ids, mask, kind)
  ours = logits(params, hidden, config)

  names = ("fine", "bad", "worse")
  save_params(tmp_path / "saved", config, params, labels=names)
  again = load_torch(
    transformers.AutoModelForSequenceClassification, tmp_path / "saved"
  )
  assert again.config.id2label == dict(enumerate(names))
  inputs = torch_inputs(ids, mask, kind)
  with torch.no_grad():
    assert np.abs(model(**inputs).logits.numpy() - ours).max() < LIMIT
    assert np.abs(again(**inputs).logits.numpy() - ours).max() < LIMIT


def test_pretraining_heads_are_ignored(tmp_path):
  config = transformers.BertConfig(**SMALL)
  transformers.BertForPreTraining(config).save_pretrained(tmp_path)
  _, ignored = load_params(tmp_path, read_config(tmp_path))
  assert any(name.startswith("cls.predictions") for name in ignored)
  assert "bert.pooler.dense.weight" in ignored


def test_embeddings_as_input(tmp_path):
  model = torch_model(V3)
  model.save_pretrained(tmp_path)
  encoder, params = load_encoder(tmp_path)
  ids, mask, _ = texts(encoder.config, 12, (12, 5))
  embedding = np.random.default_rng(1).standard_normal((2, 12, 24), np.float32)
  with torch.no_grad():
    expected = model(
      inputs_embeds=torch.tensor(embedding), attention_mask=torch.tensor(mask).long()
    ).last_hidden_state.numpy()
  ours = run(encoder, params, ids, mask, None, embedding)
  assert np.abs(ours - expected)[mask > 0].max() < LIMIT


@pytest.mark.slow
def test_real_weights_are_loaded_and_saved(tmp_path):
  from ssljax.assets import fetch

  folder = fetch.model_folder("sentence-transformers/all-MiniLM-L6-v2")
  encoder, params = load_encoder(folder)
  ids, mask, kind = texts(encoder.config, 160, (160, 7, 90))
  ours = run(encoder, params, ids, mask, kind)
  expected = torch_hidden(load_torch(transformers.AutoModel, folder), ids, mask, kind)
  assert np.abs(ours - expected)[mask > 0].max() < LIMIT

  save_params(tmp_path / "plain", encoder.config, params)
  again = load_torch(transformers.AutoModel, tmp_path / "plain")
  np.testing.assert_array_equal(torch_hidden(again, ids, mask, kind), expected)

  random = np.random.default_rng(0)
  with_head, _ = load_params(folder, encoder.config, with_head=True)
  with_head["classifier"] = {
    "kernel": random.standard_normal((384, 2), np.float32),
    "bias": random.standard_normal(2, np.float32),
  }
  save_params(tmp_path / "head", encoder.config, with_head)
  model = load_torch(transformers.AutoModelForSequenceClassification, tmp_path / "head")
  with torch.no_grad():
    theirs = model(**torch_inputs(ids, mask, kind)).logits.numpy()
  assert np.abs(theirs - logits(with_head, ours, encoder.config)).max() < LIMIT
