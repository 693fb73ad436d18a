"""load_trained: the model of a run, without the optimiser and the method's tables."""

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from ssljax.errors import UserError
from ssljax.inference.load import load_trained


def saved_state(workdir, step):
  """The whole state in a checkpoint."""
  folder = workdir / "checkpoints" / str(step) / "state"
  with ocp.PyTreeCheckpointer() as checkpointer:
    args = jax.tree.map(
      lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
      checkpointer.metadata(folder).item_metadata.tree,
    )
    return checkpointer.restore(folder, restore_args=args)


@pytest.mark.parametrize(("run", "name"), [("finished", "params"), ("killed", "ema")])
def test_only_the_parameters_are_read(old_runs, run, name, monkeypatch):
  """The moving average is what predicts, if the run keeps one."""
  read, restore = [], ocp.CheckpointManager.restore

  def recording(self, step, args):
    if "state" in args:
      read.append(list(args["state"].item))
    return restore(self, step, args=args)

  monkeypatch.setattr(ocp.CheckpointManager, "restore", recording)
  trained = load_trained(old_runs / run)
  assert read == [[name]]
  state = saved_state(old_runs / run, trained.step)
  assert {"opt", "method", name} <= state.keys()
  jax.tree.map(np.testing.assert_array_equal, trained.params, state[name])


def test_the_fields_of_a_trained_model(old_runs):
  trained = load_trained(str(old_runs / "finished"))
  assert trained.workdir == old_runs / "finished"
  assert trained.labels == ("0", "1")
  assert trained.encoder == old_runs / "encoder"
  assert trained.method.needs.predicts == "voters"
  assert trained.model.encoder.dtype == np.float32
  half = load_trained(old_runs / "finished", "bfloat16")
  assert half.model.encoder.dtype == "bfloat16"


def test_a_folder_without_a_run_or_a_checkpoint(old_runs, tmp_path):
  with pytest.raises(UserError, match="no run here"):
    load_trained(tmp_path)
  config = (old_runs / "finished" / "config.json").read_text()
  (tmp_path / "config.json").write_text(config)
  with pytest.raises(UserError, match="no checkpoint yet"):
    load_trained(tmp_path)
