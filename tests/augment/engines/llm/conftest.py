"""Fixtures of the LLM engine's tests."""

import gc
import os
import threading

import pytest


@pytest.fixture(scope="module")
def frozen_garbage():
  """Collects garbage of earlier tests and hides the rest from later collections."""
  gc.collect()
  gc.freeze()
  yield
  gc.unfreeze()


@pytest.fixture
def clean_client(monkeypatch, frozen_garbage):
  """Short backoff and no key; fails if the test leaks threads or files."""
  from ssljax.augment.engines.llm import client

  monkeypatch.setattr(client, "BACKOFF", 0.01)
  monkeypatch.delenv("OPENAI_API_KEY", raising=False)
  before = threading.active_count(), len(os.listdir("/proc/self/fd"))
  yield
  gc.collect()
  assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before
