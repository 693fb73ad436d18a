"""Fixtures of the tests of augmentation."""

import pytest

from tests.augment import folders


@pytest.fixture
def data(tmp_path, monkeypatch):
  """A dataset folder, with the cache and the log of queries beside it."""
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setenv("QUERIES", str(tmp_path / "queries"))
  return folders.make_folder(tmp_path / "data")
