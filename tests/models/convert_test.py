"""Converting pytorch_model.bin: tied tensors, old names, shards and bad files."""

import json
import pickle
import runpy
import sys
from unittest import mock

import numpy as np
import pytest
from safetensors.numpy import load_file

from ssljax.errors import UserError
from ssljax.models import EncoderConfig, hf, load_encoder, save_params
from ssljax.models.convert import convert, main
from tests.data.records import flips
from tests.models.small import SMALL, make
from tests.training.failed_save_test import small_files

torch = pytest.importorskip("torch")

CONFIG = EncoderConfig(**SMALL)


@pytest.fixture
def pickled(tmp_path):
  """A folder with a pickled BERT, with the names that old checkpoints have."""
  folder = tmp_path / "old"
  save_params(folder, CONFIG, make(CONFIG)[1])
  tensors = {}
  for name, value in load_file(folder / "model.safetensors").items():
    name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
    name = "bert." + name.replace("LayerNorm.bias", "LayerNorm.beta")
    tensors[name] = torch.tensor(value)
  tied = tensors["bert.embeddings.word_embeddings.weight"]
  tensors["cls.predictions.decoder.weight"] = tied
  tensors["bert.embeddings.position_ids"] = torch.arange(9)
  tensors["cls.transposed"] = tied.T
  (folder / "model.safetensors").unlink()
  (folder / "vocab.txt").write_text("[PAD]\n")
  (folder / "training_args.bin").write_text("not copied")
  torch.save(tensors, folder / "pytorch_model.bin")
  return folder


def assert_converted(folder):
  _, params = load_encoder(folder)
  expected = make(CONFIG)[1]
  for part in ("word", "norm"):
    for name, value in expected["embeddings"][part].items():
      np.testing.assert_array_equal(params["embeddings"][part][name], value)
  up = params["layers"]["up"]["kernel"]
  np.testing.assert_array_equal(up, expected["layers"]["up"]["kernel"])


def test_writes_safetensors_config_and_tokenizer(pickled, tmp_path, capsys):
  target = tmp_path / "deep" / "new"
  assert main([str(pickled), str(target)]) == 0
  assert "cls.predictions.decoder.weight" in capsys.readouterr().out
  assert_converted(target)
  names = load_file(target / "model.safetensors")
  assert "bert.embeddings.LayerNorm.weight" in names
  assert not any(name.endswith(("gamma", "beta")) for name in names)
  files = {file.name for file in target.iterdir()}
  assert files == {"config.json", "model.safetensors", "vocab.txt"}
  assert [file.name for file in target.parent.iterdir()] == ["new"]


def test_joins_shards(pickled, tmp_path):
  whole = pickled / "pytorch_model.bin"
  tensors = torch.load(whole, weights_only=True)
  whole.unlink()
  file_of = {}
  for i, name in enumerate(tensors):
    file_of[name] = f"pytorch_model-{i % 2}.bin"
  for file in set(file_of.values()):
    shard = {name: value for name, value in tensors.items() if file_of[name] == file}
    torch.save(shard, pickled / file)
  index = {"weight_map": file_of}
  (pickled / "pytorch_model.bin.index.json").write_text(json.dumps(index))
  convert(pickled, tmp_path / "new")
  assert_converted(tmp_path / "new")


class Hostile:
  """Runs code when it is unpickled."""

  def __reduce__(self):
    return print, ("ran code from the file",)


def test_runs_no_code_from_the_file(pickled, tmp_path, capsys):
  torch.save({"bert": Hostile()}, pickled / "pytorch_model.bin")
  with pytest.raises(UserError, match="contains more than weights"):
    convert(pickled, tmp_path / "new")
  (pickled / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile()))
  with pytest.raises(UserError, match="contains more than weights"):
    convert(pickled, tmp_path / "new")
  assert "ran code" not in capsys.readouterr().out
  assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
  ("failure", "code", "line"),
  [
    (None, 1, "error: new: cannot be written (File too large); free some space"),
    (
      PermissionError(13, "Permission denied", "new"),
      2,
      "error: new: Permission denied",
    ),
    (KeyboardInterrupt(), 130, "interrupted"),
  ],
)
def test_the_command_ends_with_one_line(
  pickled, tmp_path, capsys, monkeypatch, failure, code, line
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "argv", ["convert", str(pickled), "new"])
  monkeypatch.delitem(sys.modules, "ssljax.models.convert")  # else runpy warns
  if failure:
    monkeypatch.setattr(hf, "write_tensors", mock.Mock(side_effect=failure))
  with small_files(4000), pytest.raises(SystemExit) as ended:
    runpy.run_module("ssljax.models.convert", run_name="__main__")
  assert ended.value.code == code
  shown = capsys.readouterr().err
  assert shown.startswith(line)
  assert shown.count("\n") == 1
  assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_flipped_bit_is_refused(pickled, tmp_path):
  file = pickled / "pytorch_model.bin"
  content = file.read_bytes()
  flips.flip(file, content, 8 * (len(content) // 2))  # within a tensor
  with pytest.raises(UserError, match=r"match its checksum\); download it again"):
    convert(pickled, tmp_path / "new")
  assert not (tmp_path / "new").exists()


def test_errors(pickled, tmp_path, monkeypatch):
  target = tmp_path / "new"
  content = (pickled / "pytorch_model.bin").read_bytes()
  (pickled / "pytorch_model.bin").write_bytes(content[: len(content) // 2])
  with pytest.raises(UserError, match="damaged"):
    main([str(pickled), str(target)])
  torch.save({"bert.x": torch.ones(1)}, pickled / "pytorch_model.bin")
  with pytest.raises(UserError, match=r"unknown key bert\.x"):
    convert(pickled, target)
  assert not target.exists()
  (pickled / "pytorch_model.bin").unlink()
  with pytest.raises(UserError, match=r"no pytorch_model.bin to convert"):
    convert(pickled, target)
  save_params(pickled, CONFIG, make(CONFIG)[1])
  with pytest.raises(UserError, match="use a folder with safetensors as it is"):
    convert(pickled, target)
  with pytest.raises(UserError, match="exists and is not empty"):
    convert(pickled, pickled)
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(
    UserError, match=r"needs torch; run pip install -e '\.\[parity\]'"
  ):
    convert(pickled, target)
