"""Fixtures of the tests of augmentation."""

import gc
import os
import threading

import pytest

from tests.augment import folders, places


@pytest.fixture(scope="module")
def swept():
  """What earlier tests of the process left is gone, or out of the collector's sight."""
  gc.collect()
  gc.freeze()
  yield
  gc.unfreeze()


@pytest.fixture
def quick(monkeypatch, swept):
  """Waits of milliseconds, no key, no proxy; and nothing is left behind."""
  from ssljax.augment.engines.llm.engine import client  # needs an extra

  monkeypatch.setattr(client, "BASE", 0.01)
  monkeypatch.delenv("OPENAI_API_KEY", raising=False)
  before = threading.active_count(), len(os.listdir("/proc/self/fd"))
  yield
  gc.collect()
  assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


@pytest.fixture
def data(tmp_path, monkeypatch):
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setenv("NOTE", str(tmp_path / "note"))
  return places.folder(tmp_path / "data", folders.TEXTS)
