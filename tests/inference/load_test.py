"""load_trained: the model of a run, without the optimiser and the method's tables."""

import json
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from ssljax import SafetyClassifier, evaluate
from ssljax.errors import UserError
from ssljax.export import export
from ssljax.inference.load import load_trained
from ssljax.models.hf import tokenizer_sha256
from ssljax.training import pytrees
from tests import old_files


def saved_state(workdir, step):
  """The whole state in a checkpoint."""
  folder = workdir / "checkpoints" / str(step) / "state"
  with ocp.PyTreeCheckpointer() as checkpointer:
    args = jax.tree.map(
      lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
      checkpointer.metadata(folder).item_metadata.tree,
    )
    return checkpointer.restore(folder, restore_args=args)


@pytest.fixture
def copy(old_runs, tmp_path):
  """A copy of the finished run, to be changed."""
  return shutil.copytree(old_runs / "finished", tmp_path / "run")


def add_params_sha256(workdir, step, name):
  """Completes a checkpoint of version 0.1.0."""
  path = workdir / "checkpoints" / str(step) / "meta" / "metadata"
  record = json.loads(path.read_text())
  record["params_sha256"] = pytrees.sha256(saved_state(workdir, step)[name])
  path.write_text(json.dumps(record))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("run", "name"), [("finished", "params"), ("killed", "ema")])
def test_only_the_parameters_are_read(
  old_runs, tmp_path, run, name, old, monkeypatch, capsys
):
  """The moving average predicts, if the run keeps one.

  Checkpoints of version 0.1.0 are read whole, since only the state has a SHA-256.
  """
  workdir = shutil.copytree(old_runs / run, tmp_path / run)
  if not old:
    add_params_sha256(workdir, 8, name)
  read, restore = [], ocp.CheckpointManager.restore

  def recording(self, step, args):
    if "state" in args:
      read.append(list(args["state"].item))
    return restore(self, step, args=args)

  monkeypatch.setattr(ocp.CheckpointManager, "restore", recording)
  trained = load_trained(workdir)
  assert trained.step == 8
  assert capsys.readouterr().err == ""
  state = saved_state(workdir, 8)
  assert read == [sorted(state) if old else [name]]
  assert {"opt", "method", name} <= state.keys()
  jax.tree.map(np.testing.assert_array_equal, trained.params, state[name])


@pytest.mark.slow
def test_the_fields_of_a_trained_model(old_runs):
  trained = load_trained(str(old_runs / "finished"))
  assert trained.workdir == old_runs / "finished"
  assert trained.labels == ("0", "1")
  assert trained.encoder == old_runs / "encoder"
  assert trained.method.needs.predicts == "voters"
  assert trained.model.encoder.dtype == np.float32


@pytest.mark.slow
def test_a_run_in_bfloat16_is_scored_in_float32(old_runs, tmp_path):
  half = tmp_path / "half"
  shutil.copytree(old_runs / "finished", half)
  config = json.loads((half / "config.json").read_text())
  (half / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
  assert load_trained(half).model.encoder.dtype == np.float32


def test_a_folder_without_a_run_or_a_checkpoint(old_runs, tmp_path):
  with pytest.raises(UserError, match="no run here"):
    load_trained(tmp_path)
  config = (old_runs / "finished" / "config.json").read_text()
  (tmp_path / "config.json").write_text(config)
  with pytest.raises(UserError, match="no checkpoint yet"):
    load_trained(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["params/classifier/kernel", "method/margin"])
def test_a_changed_byte_in_an_old_checkpoint_is_noticed(copy, capsys, name):
  """Such arrays are still readable: only the SHA-256 of the state differs."""
  folder = copy / "checkpoints" / "8" / "state"
  state = saved_state(copy, 8)
  array = state
  for key in name.split("/"):
    array = array[key]
  array.flat[0] += 1
  shutil.rmtree(folder)
  with ocp.PyTreeCheckpointer() as checkpointer:
    checkpointer.save(folder, state)
  trained = load_trained(copy)
  assert trained.step == 24
  jax.tree.map(
    np.testing.assert_array_equal, trained.params, saved_state(copy, 24)["params"]
  )
  assert "best checkpoint, of step 8: its bytes have changed" in capsys.readouterr().err


def test_an_old_checkpoint_with_a_flipped_byte_is_skipped(copy, capsys):
  files = (copy / "checkpoints" / "8" / "state").rglob("d/*")
  largest = max(files, key=lambda file: file.stat().st_size)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 4
  largest.write_bytes(content)
  assert load_trained(copy).step == 24
  assert "best checkpoint, of step 8" in capsys.readouterr().err


def test_an_encoder_of_another_size(copy, old_runs, tmp_path):
  encoder = shutil.copytree(old_runs / "encoder", tmp_path / "encoder")
  config = json.loads((encoder / "config.json").read_text())
  (encoder / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
  old_files.set_keys(copy, encoder=str(encoder))
  with pytest.raises(UserError) as error:
    load_trained(copy)
  message = str(error.value)
  assert message.startswith(f"{copy}: its parameters don't fit the encoder {encoder}")
  assert "classifier/kernel is (3, 16, 2) in the checkpoint and (3, 32, 2)" in message


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "added_tokens.json"])
def test_a_tokenizer_that_was_changed_after_training_is_refused(
  copy, old_runs, tmp_path, name
):
  """Its ids would be other words to the model. Old runs hold no hash."""
  encoder = shutil.copytree(old_runs / "encoder", tmp_path / "encoder")
  old_files.set_keys(copy, encoder=str(encoder))
  resolved = json.loads((copy / "config.json").read_text())["resolved"]
  hashes = {"tokenizer_sha256": tokenizer_sha256(encoder), "weights_sha256": "0"}
  old_files.set_keys(copy, resolved={**resolved, **hashes})
  (encoder / "README.md").write_text("")
  assert load_trained(copy).encoder == encoder
  with open(encoder / name, "a") as file:
    file.write("\n" if name != "added_tokens.json" else "{}")
  message = "have changed since the run started; restore them"
  for load in (
    load_trained,
    SafetyClassifier.load,
    lambda workdir: evaluate(workdir, old_runs / "data", tmp_path / "evaluation"),
    lambda workdir: export(workdir, tmp_path / "exported"),
  ):
    with pytest.raises(UserError, match=f"^{copy}: .* encoder {encoder} {message}"):
      load(copy)
  assert not (tmp_path / "exported").exists()
  old_files.set_keys(copy, resolved=resolved)
  load_trained(copy)
