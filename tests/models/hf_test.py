"""Loading and saving checkpoints: all keys, old names, shards and bad files."""

import json
import logging

import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ssljax.errors import UserError
from ssljax.models import EncoderConfig, load_encoder, load_params, save_params
from ssljax.models.keys import key_table, param_shapes
from tests.models.small import SMALL, V3, configs, make

BERT, DEBERTA = EncoderConfig(**SMALL), EncoderConfig(**SMALL | V3)


def assert_equal(expected, params):
  expected = traverse_util.flatten_dict(expected)
  params = traverse_util.flatten_dict(params)
  assert expected.keys() == params.keys()
  for path in expected:
    assert params[path].dtype == np.float32
    np.testing.assert_array_equal(expected[path], params[path])


def params_with_head(config, classes=2):
  random = np.random.default_rng(5)
  draw = lambda *shape: random.standard_normal(shape, np.float32)
  return {
    "encoder": make(config)[1],
    "pooler": {"kernel": draw(24, 24), "bias": draw(24)},
    "classifier": {"kernel": draw(24, classes), "bias": draw(classes)},
  }


@pytest.fixture
def saved(tmp_path):
  """A function that saves a small BERT, changes its tensors and returns the folder."""

  def save(change=lambda tensors: None, config=BERT):
    save_params(tmp_path, config, make(config)[1])
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path

  return save


@configs
def test_the_key_table_covers_every_parameter_once(config):
  table = [key.ours for key in key_table(config)]
  assert len(set(table)) == len(table)
  assert set(table) == set(param_shapes(config))


@pytest.mark.slow
@configs
def test_load_params_inverts_save_params(config, tmp_path):
  _, params = make(config)
  save_params(tmp_path, config, params)
  loaded, ignored = load_params(tmp_path, config)
  assert_equal(params, loaded)
  assert ignored == ()
  with safe_open(tmp_path / "model.safetensors", framework="np") as file:
    assert file.metadata() == {"format": "pt"}  # required by older transformers
  encoder, loaded = load_encoder(str(tmp_path), dtype="bfloat16", remat=True)
  assert_equal(params, loaded)
  assert encoder.config == config
  assert (encoder.dtype, encoder.remat) == (np.dtype(ml_dtypes.bfloat16), True)


@pytest.mark.slow
@pytest.mark.parametrize("config", [BERT, DEBERTA], ids=["bert", "deberta"])
def test_load_params_inverts_save_params_with_a_head(config, tmp_path):
  params = params_with_head(config, classes=3)
  save_params(tmp_path, config, params, labels=("a", "b", "c"))
  encoder, _ = load_encoder(tmp_path)
  assert encoder.config.labels == ("a", "b", "c")
  loaded, ignored = load_params(tmp_path, encoder.config, with_head=True)
  assert_equal(params, loaded)
  assert ignored == ()
  without, ignored = load_params(tmp_path, encoder.config)
  assert_equal(params["encoder"], without)
  assert len(ignored) == 4
  names = load_file(tmp_path / "model.safetensors").keys()
  prefix = {"bert": "bert.", "deberta-v2": "deberta."}[config.model_type]
  pooler = "bert.pooler" if config is BERT else "pooler"
  outside = {"classifier.weight", "classifier.bias"}
  outside |= {f"{pooler}.dense.weight", f"{pooler}.dense.bias"}
  assert outside < set(names)
  assert all(name.startswith(prefix) for name in set(names) - outside)


def test_a_missing_head_is_left_out(saved):
  params, _ = load_params(saved(), BERT, with_head=True)
  assert set(params) == {"encoder"}


def test_an_incomplete_head_is_an_error(saved):
  def change(tensors):
    tensors["classifier.bias"] = np.zeros(2, np.float32)

  with pytest.raises(UserError, match=r"missing key classifier.weight"):
    load_params(saved(change), BERT, with_head=True)


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_prefixes_are_optional_and_old_names_are_read(prefix, saved):
  def change(tensors):
    for name in list(tensors):
      old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
      old = old.replace("LayerNorm.bias", "LayerNorm.beta")
      tensors[prefix + old] = tensors.pop(name)
    assert any(name.endswith("LayerNorm.gamma") for name in tensors)

  params, _ = load_params(saved(change), BERT)
  assert_equal(make(BERT)[1], params)


def test_ignored_tensors_are_returned_and_logged(saved, caplog):
  extra = {
    "bert.embeddings.position_ids": np.arange(140)[None],
    "cls.predictions.bias": np.zeros(3, np.float32),
    "pooler.dense.weight": np.zeros((24, 24), np.float32),
    "qa_outputs.weight": np.zeros((2, 24), np.float32),
  }
  with caplog.at_level(logging.INFO):
    params, ignored = load_params(saved(lambda tensors: tensors.update(extra)), BERT)
  assert_equal(make(BERT)[1], params)
  assert set(ignored) == set(extra)
  for name in extra:
    assert name in caplog.text


def test_position_embeddings_that_the_config_turns_off_are_ignored(saved):
  name = "deberta.embeddings.position_embeddings.weight"
  heads = ("lm_predictions.lm_head.bias", "mask_predictions.dense.weight")
  extra = {key: np.zeros((2, 2), np.float32) for key in (name, *heads)}
  folder = saved(lambda tensors: tensors.update(extra), DEBERTA)
  _, ignored = load_params(folder, DEBERTA)
  assert set(ignored) == set(extra)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_all_float_types_are_converted_to_float32(dtype, saved):
  def change(tensors):
    for name in tensors:
      tensors[name] = tensors[name].astype(dtype)

  expected = make(BERT)[1]["layers"]["up"]["kernel"]
  params, _ = load_params(saved(change), BERT)
  kernel = params["layers"]["up"]["kernel"]
  assert kernel.dtype == np.float32
  np.testing.assert_array_equal(kernel, expected.astype(dtype).astype(np.float32))


def test_one_error_lists_every_tensor_that_does_not_match(saved):
  def change(tensors):
    del tensors["encoder.layer.1.output.dense.bias"]
    del tensors["embeddings.LayerNorm.weight"]
    tensors["embeddings.word_embeddings.weight"] = np.zeros((49, 24), np.float32)
    tensors["encoder.layer.2.output.dense.bias"] = np.zeros(24, np.float32)
    tensors["bert.embeddings.LayerNorm.bias"] = np.zeros(24, np.float32)
    tensors["encoder.layer.0.output.dense.bias"] = np.zeros(24, np.int32)
    tensors["encoder.layer.1.output.LayerNorm.bias"][3] = np.nan

  folder = saved(change)
  with pytest.raises(UserError) as error:
    load_params(folder, BERT)
  text = str(error.value)
  assert "\n" not in text
  for words in (
    str(folder),
    "7 tensors do not match the bert model in config.json",
    "missing key encoder.layer.1.output.dense.bias",
    "missing key embeddings.LayerNorm.weight",
    "embeddings.word_embeddings.weight has shape (49, 24), not (50, 24)",
    "unknown key encoder.layer.2.output.dense.bias",
    "embeddings.LayerNorm.bias is a duplicate of",
    "encoder.layer.0.output.dense.bias has dtype int32, not a float type",
    "encoder.layer.1.output.LayerNorm.bias contains NaN or infinite values",
    "config.json that belongs to the weights",
  ):
    assert words in text


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_a_truncated_file_is_an_error(keep, saved):
  folder = saved()
  file = folder / "model.safetensors"
  content = file.read_bytes()
  file.write_bytes(content[:keep])
  with pytest.raises(UserError, match="truncated or not a safetensors file") as error:
    load_encoder(folder)
  assert str(file) in str(error.value)


def test_shards_are_joined(saved):
  folder = saved()
  tensors = load_file(folder / "model.safetensors")
  (folder / "model.safetensors").unlink()
  names = sorted(tensors)
  file_of = {
    name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(names)
  }
  for file in set(file_of.values()):
    save_file(
      {name: tensors[name] for name in names if file_of[name] == file}, folder / file
    )
  index = folder / "model.safetensors.index.json"
  index.write_text(json.dumps({"metadata": {}, "weight_map": file_of}))
  params, _ = load_params(folder, BERT)
  assert_equal(make(BERT)[1], params)

  (folder / "model-00002-of-00002.safetensors").unlink()
  with pytest.raises(UserError, match=r"model-00002-of-00002.safetensors missing"):
    load_params(folder, BERT)
  index.write_text("{}")
  with pytest.raises(UserError, match="not an index of weight files"):
    load_params(folder, BERT)


def test_a_folder_without_safetensors_is_an_error(saved):
  folder = saved()
  (folder / "model.safetensors").unlink()
  with pytest.raises(UserError, match=r"no weights; give a folder with"):
    load_encoder(folder)
  (folder / "pytorch_model.bin").write_bytes(b"")
  command = f"python -m ssljax.models.convert {folder} FOLDER"
  with pytest.raises(UserError, match=r"weights only as pytorch_model\.bin") as error:
    load_encoder(folder)
  assert command in str(error.value)


def test_parameters_that_do_not_match_are_not_saved(tmp_path):
  params = params_with_head(BERT)
  params["encoder"] = {**params["encoder"], "more": np.zeros(1)}
  params["pooler"] = {"bias": np.zeros(3)}
  with pytest.raises(UserError) as error:
    save_params(tmp_path / "new", BERT, params)
  for words in (
    "missing pooler/kernel",
    "pooler/bias has shape (3,), not (24,)",
    "unknown encoder/more",
  ):
    assert words in str(error.value)
  assert not (tmp_path / "new").exists()
  with pytest.raises(UserError, match="3 labels for a classifier with 2 classes"):
    save_params(tmp_path / "new", BERT, params_with_head(BERT), labels=("a", "b", "c"))
