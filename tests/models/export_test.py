"""Exported folders give the same logits in torch: both families, heads, voters."""

import json

import jax
import numpy as np
import pytest

from ssljax.export import write_weights
from ssljax.method import Head
from ssljax.models import Encoder
from ssljax.models.classifier import Classifier
from tests.models.classifier_test import CONFIGS, FIRST, jit, padded, random_params
from tests.training.failed_save_test import small_files

torch = pytest.importorskip("torch", reason="pip install torch")
transformers = pytest.importorskip("transformers")

LIMIT = 1e-4
CASES = [
  (name, head, voters, virtual)
  for name in ("bert", "v3")
  for head in ("hf", "mlp")
  for voters, virtual in ((1, 0), (3, 1))
]


@pytest.mark.parametrize(("name", "head", "voters", "virtual"), CASES)
def test_exported_folders_give_the_models_logits(name, head, voters, virtual, tmp_path):
  heads = {"voters": Head("classifier", voters)} if voters > 1 else {}
  labels = ("fine", "rude", "harmful")
  model = Classifier(Encoder(CONFIGS[name]), len(labels) + virtual, head, heads)
  params = jax.tree.map(np.asarray, random_params(model))
  expected = jit(model.apply)({"params": params}, (padded(FIRST),)).logits[
    :, : len(labels)
  ]
  config = CONFIGS[name]
  assert write_weights(tmp_path, config, params, head, labels, 40) == (
    voters if head == "mlp" else 1
  )
  predict = in_transformers if head == "hf" else in_sentence_transformers
  logits = predict(tmp_path, labels)
  assert np.ptp(expected, axis=0).min() > 0.1
  assert np.abs(logits - expected).max() < LIMIT


@pytest.mark.parametrize(("head", "voters"), [("hf", 3), ("mlp", 3), ("mlp", 1)])
def test_the_temperature_is_in_the_weights(head, voters, tmp_path):
  heads = {"voters": Head("classifier", voters)} if voters > 1 else {}
  labels = ("fine", "rude", "harmful")
  model = Classifier(Encoder(CONFIGS["bert"]), len(labels), head, heads)
  params = jax.tree.map(np.asarray, random_params(model))
  expected = jit(model.apply)({"params": params}, (padded(FIRST),)).logits / 2.5
  write_weights(tmp_path, CONFIGS["bert"], params, head, labels, 40, temperature=2.5)
  predict = in_transformers if head == "hf" else in_sentence_transformers
  assert np.abs(predict(tmp_path, labels) - expected).max() < LIMIT


@pytest.mark.parametrize("head", ["hf", "mlp"])
def test_an_extra_head_that_predicts_replaces_the_classifier(head, tmp_path):
  heads, labels = {"balanced": Head("linear")}, ("fine", "rude", "harmful")
  model = Classifier(Encoder(CONFIGS["bert"]), len(labels), head, heads)
  params = jax.tree.map(np.asarray, random_params(model))
  outputs = jit(model.apply)({"params": params}, (padded(FIRST),))
  write_weights(tmp_path, CONFIGS["bert"], params, head, labels, 40, "balanced")
  predict = in_transformers if head == "hf" else in_sentence_transformers
  logits = predict(tmp_path, labels)
  assert np.abs(outputs.heads["balanced"] - outputs.logits).min(0).max() > 0.1
  assert np.abs(logits - outputs.heads["balanced"]).max() < LIMIT


def inputs():
  """Yields the inputs of one text at a time, without padding."""
  for ids, prompt in FIRST:
    kind = (np.arange(len(ids)) >= prompt).astype(np.int64)
    yield {
      "input_ids": torch.tensor(ids[None]).long(),
      "token_type_ids": torch.tensor(kind[None]),
      "attention_mask": torch.ones((1, len(ids)), dtype=torch.long),
    }


def in_transformers(folder, labels):
  model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
  assert model.config.id2label == dict(enumerate(labels))
  with torch.no_grad():
    return np.concatenate([model(**batch).logits.numpy() for batch in inputs()])


def in_sentence_transformers(folder, labels):
  """Applies the modules of modules.json as sentence-transformers does."""
  from safetensors.torch import load_file

  modules = json.loads((folder / "modules.json").read_text())
  assert [m["path"] for m in modules] == ["", "1_Pooling", "2_Dense", "3_Dense"]
  assert json.loads((folder / "1_Pooling" / "config.json").read_text())[
    "pooling_mode_mean_tokens"
  ]
  encoder = transformers.AutoModel.from_pretrained(folder).eval()
  activations = {
    "torch.nn.modules.activation.GELU": torch.nn.GELU(),
    "torch.nn.modules.linear.Identity": torch.nn.Identity(),
  }
  logits = []
  with torch.no_grad():
    for batch in inputs():
      x = encoder(**batch).last_hidden_state.mean(1)
      for name in ("2_Dense", "3_Dense"):
        config = json.loads((folder / name / "config.json").read_text())
        dense = load_file(folder / name / "model.safetensors")
        shape = config["out_features"], config["in_features"]
        assert dense["linear.weight"].shape == shape
        x = x @ dense["linear.weight"].T + dense["linear.bias"]
        x = activations[config["activation_function"]](x)
      logits.append(x.numpy())
  return np.concatenate(logits)


@pytest.mark.parametrize("head", ["hf", "mlp"])
def test_a_full_disk_is_an_os_error(head, tmp_path):
  model = Classifier(Encoder(CONFIGS["bert"]), 2, head, {})
  params = jax.tree.map(np.asarray, random_params(model))
  with small_files(700), pytest.raises(OSError, match="File too large"):
    write_weights(tmp_path, CONFIGS["bert"], params, head, ("fine", "rude"), 40)
