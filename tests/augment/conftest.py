"""Fixtures of the tests of augmentation."""

import pytest

from tests.augment import folders, places


@pytest.fixture
def data(tmp_path, monkeypatch):
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setenv("NOTE", str(tmp_path / "note"))
  return places.folder(tmp_path / "data", folders.TEXTS)
