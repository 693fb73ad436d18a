"""Saves that fail, or can't be read: one line, and the checkpoint before is kept."""

import contextlib
import errno
import resource
import sys
import time
import types
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from ssljax.errors import RunError, UserError
from ssljax.evals import runs
from ssljax.train import _write_report
from ssljax.training import workdir
from ssljax.training.checkpoint import Checkpoints
from tests.training.checkpoint_test import data_files, steps

STATE = {"x": jnp.arange(400_000, dtype=jnp.float32), "key": jax.random.key(1)}
ABSTRACT = jax.tree.map(
  lambda a: jax.ShapeDtypeStruct(
    a.shape, a.dtype, sharding=SingleDeviceSharding(jax.devices()[0])
  ),
  STATE,
)


@contextlib.contextmanager
def small_files(size):
  """Lets writes beyond this size fail, as on a full disk."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_save_before_is_kept(tmp_path):
  checkpoints = Checkpoints(tmp_path / "checkpoints")
  checkpoints.save(1, STATE, {})
  checkpoints.wait()
  with small_files(1000):
    checkpoints.save(2, STATE, {})
    with pytest.raises(
      RunError, match=r"too large; checkpoint of step 1 kept"
    ) as caught:
      checkpoints.wait()
  assert "\n" not in str(caught.value)
  assert steps(tmp_path) == [1]
  checkpoints.close()


def test_a_failed_save_is_noticed_before_the_next_one(tmp_path):
  checkpoints = Checkpoints(tmp_path / "checkpoints")

  def save_and_train():
    checkpoints.save(1, STATE, {})
    for _ in range(1000):
      checkpoints.check()
      time.sleep(0.01)

  with small_files(1000), pytest.raises(RunError, match="no checkpoint yet"):
    save_and_train()
  checkpoints.close()


def test_errors_of_abandoned_writes_are_hidden(tmp_path, monkeypatch):
  shown = []
  monkeypatch.setattr(sys, "unraisablehook", shown.append)
  Checkpoints(tmp_path / "checkpoints").close()
  for text in ("Event loop is closed", "something else"):
    report = types.SimpleNamespace(exc_value=RuntimeError(text))
    sys.unraisablehook(report)
  assert [str(report.exc_value) for report in shown] == ["something else"]


def test_only_a_full_disk_makes_a_missing_report_an_error(tmp_path, monkeypatch):
  notes = []
  render = mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
  monkeypatch.setattr(runs, "read_run", render)
  with pytest.raises(OSError, match="No space left"):
    _write_report(tmp_path, notes.append)
  render.side_effect = ValueError("a bug")
  _write_report(tmp_path, notes.append)
  assert "report.html was not written (ValueError('a bug'))" in notes[0]


def test_a_checkpoint_is_read_back(tmp_path):
  checkpoints = Checkpoints(tmp_path / "checkpoints")
  checkpoints.save(1, STATE, {})
  checkpoints.verify(1, ABSTRACT)
  restored, _, step = checkpoints.restore(ABSTRACT)  # reading back doesn't disturb it
  assert (restored["x"] == STATE["x"]).all()
  assert step == 1
  content = bytearray((file := data_files(tmp_path, 1)[0]).read_bytes())
  content[len(content) // 2] ^= 4
  file.write_bytes(content)
  with pytest.raises(RunError, match="step 1 was written but can't be read back"):
    checkpoints.verify(1, ABSTRACT)
  checkpoints.close()


@pytest.mark.parametrize("name", ["lr=[1e-4]", "a\\b", "*", "?/deeper"])
def test_a_folder_whose_checkpoints_cannot_be_read_is_refused(tmp_path, name):
  folder = tmp_path / name
  with pytest.raises(UserError, match=r"--workdir=.* contains .* use a path without"):
    workdir.check_path(folder)
  workdir.check_path(tmp_path / "lr=1e-4")
  folder.mkdir(parents=True)
  (folder / "config.json").touch()
  workdir.check_path(folder)  # an older run, which may be finished


def test_reading_from_a_folder_with_brackets_says_why_it_fails(tmp_path):
  checkpoints = Checkpoints(tmp_path / "lr=[1e-4]" / "checkpoints")
  checkpoints.save(1, STATE, {})
  with pytest.raises(RunError, match="can't be read back"):
    checkpoints.verify(1, ABSTRACT)
  with pytest.raises(UserError, match=r"rename the folder, .* no \[ \]"):
    checkpoints.restore(ABSTRACT)
  checkpoints.close()
