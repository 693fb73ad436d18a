"""The cache, manifest and package index of the toy asset."""

import hashlib
import json

import pytest

from ssljax.assets import fetch
from tests.assets.toy import MEMBERS


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """An empty cache, a manifest with a toy asset, and a pip that only sees `index`."""
  manifest = {
    "toy": {
      "what": "a toy",
      "package": "toy-data",
      "version": "1.0",
      "bytes": 2_400_000,
      "licence": "none",
      "upstream": "none",
      "models": {"toys/toy": "toy/data"},
      "members": {
        member: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for member, content in MEMBERS.items()
      },
    }
  }
  (tmp_path / "manifest.json").write_text(json.dumps(manifest))
  (tmp_path / "index").mkdir()
  monkeypatch.setattr(fetch, "MANIFEST", tmp_path / "manifest.json")
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setenv("PIP_NO_INDEX", "1")
  monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
  return tmp_path / "cache"
