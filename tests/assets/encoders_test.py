"""resolve: from names to folders, with a simulated hub."""

import hashlib
import json
import os
import subprocess
import sys
import time
import types

import huggingface_hub
import pytest
from huggingface_hub import errors

from ssljax.assets import encoders
from ssljax.assets.encoders import resolve
from ssljax.errors import UserError

NAME = "someone/encoder"


@pytest.fixture(autouse=True)
def _manifest(monkeypatch, tmp_path):
  """A manifest with a single name."""
  model_folder = lambda name: tmp_path if name == "known/model" else None
  monkeypatch.setattr(encoders.fetch, "model_folder", model_folder)


@pytest.fixture
def hub(monkeypatch):
  """A simulated hub; `hub.answer` is its answer for NAME, or the error it raises."""
  state = types.SimpleNamespace(answer=None, folder=None, calls=[])

  def download(name, **options):
    state.calls.append("cache" if options.get("local_files_only") else "download")
    if options.get("local_files_only") and state.folder is None:
      raise errors.LocalEntryNotFoundError("not there")
    return str(state.folder)

  def info(self, name, **options):
    state.calls.append("ask")
    if isinstance(state.answer, Exception):
      raise state.answer
    return state.answer() if callable(state.answer) else state.answer

  monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
  monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
  return state


def repository(*files):
  siblings = [types.SimpleNamespace(rfilename=file) for file in files]
  return types.SimpleNamespace(siblings=siblings, sha="abc")


def http_error(kind):
  response = types.SimpleNamespace(
    headers={}, request=None, status_code=404, url="", text=""
  )
  return kind("no", response=response)


def test_a_folder_is_returned_as_it_is(tmp_path, hub):
  assert resolve(str(tmp_path)) == tmp_path
  assert resolve(tmp_path) == tmp_path
  assert not hub.calls


def test_the_manifest_comes_before_the_hub(tmp_path, hub):
  assert resolve("known/model") == tmp_path
  assert not hub.calls


@pytest.mark.parametrize(
  "name", ["./none", "/none/at/all", "a/b/c", "", "~/none", "a b"]
)
def test_the_hub_is_not_asked_for_paths(name, hub):
  with pytest.raises(UserError, match="no such folder"):
    resolve(name)
  assert not hub.calls


def test_a_file_is_an_error(tmp_path):
  file = tmp_path / "model.safetensors"
  file.write_bytes(b"")
  with pytest.raises(UserError, match="is a file; give the folder"):
    resolve(file)


def test_a_cached_encoder_needs_no_network(tmp_path, hub):
  hub.folder = tmp_path
  for name in ("config.json", "model.safetensors", "tokenizer.json"):
    (tmp_path / name).write_text("{}")
  assert resolve(NAME) == tmp_path
  assert hub.calls == ["cache"]


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json"])
def test_a_missing_file_in_the_cache_is_downloaded(tmp_path, hub, missing):
  hub.folder = tmp_path
  names = ["config.json", "model.safetensors", "tokenizer.json"]
  for name in names:
    if name != missing:
      (tmp_path / name).write_text("{}")
  hub.answer = repository(*names)
  assert resolve(NAME) == tmp_path
  assert hub.calls == ["cache", "ask", "download"]


def test_a_missing_shard_in_the_cache_is_downloaded(tmp_path, hub):
  hub.folder = tmp_path
  shards = ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]
  (tmp_path / "config.json").write_text("{}")
  (tmp_path / shards[0]).write_bytes(b"")
  index = {"weight_map": dict(zip("ab", shards, strict=True))}
  (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
  hub.answer = repository("config.json", *shards)
  assert resolve(NAME) == tmp_path
  assert hub.calls == ["cache", "ask", "download"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_changed_in_the_cache_is_refused(tmp_path, hub, name):
  hub.folder = tmp_path / "snapshots" / "abc"
  hub.folder.mkdir(parents=True)
  content = b'{"a": 1}'
  hashes = {
    "config.json": hashlib.sha1(b"blob 8\0" + content).hexdigest(),
    "tokenizer.json": hashlib.sha1(b"blob 8\0" + content).hexdigest(),
    "model.safetensors": hashlib.sha256(content).hexdigest(),
  }
  for file, digest in hashes.items():
    (tmp_path / digest).write_bytes(content)
    (hub.folder / file).symlink_to(tmp_path / digest)
  assert resolve(NAME) == hub.folder
  (tmp_path / hashes[name]).write_bytes(b'{"a": 2}')
  with pytest.raises(UserError, match=f"{hashes[name]}, and run again"):
    resolve(NAME)


def test_pickled_weights_are_an_error_that_names_the_converter(hub, tmp_path):
  hub.answer = repository("config.json", "pytorch_model.bin")
  command = "python -m ssljax.models.convert someone/encoder FOLDER"
  with pytest.raises(UserError, match="a pickle, which can run code") as error:
    resolve(NAME)
  assert command in str(error.value)
  hub.folder = tmp_path
  assert resolve(NAME, pickled=True) == tmp_path


@pytest.mark.parametrize(
  ("answer", "message"),
  [
    (OSError("Name or service not known"), "the hub did not answer within 5 s"),
    (http_error(errors.RepositoryNotFoundError), "no such name on the hub"),
    (http_error(errors.GatedRepoError), "gated on the hub"),
    (repository("README.md"), "this repository on the hub has no weights"),
  ],
)
def test_errors_name_the_encoder_and_the_reason(answer, message, hub):
  hub.answer = answer
  with pytest.raises(UserError, match=message) as error:
    resolve(NAME)
  assert NAME in str(error.value)


def test_a_hub_that_hangs_is_an_error_after_the_timeout(hub, monkeypatch):
  monkeypatch.setattr(encoders, "TIMEOUT", 0.2)
  hub.answer = lambda: time.sleep(2)
  start = time.monotonic()
  with pytest.raises(UserError, match="did not answer"):
    resolve(NAME)
  assert time.monotonic() - start < 1


def test_without_a_network_the_error_comes_within_seconds(tmp_path):
  # In a new process, since huggingface_hub reads its settings once.
  program = (
    "import time\n"
    "from ssljax.assets.encoders import resolve\n"
    "from ssljax.errors import UserError\n"
    "start = time.monotonic()\n"
    "try: resolve('someone/encoder')\n"
    "except UserError as error: print(time.monotonic() - start, error)"
  )
  settings = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
  done = subprocess.run(
    [sys.executable, "-c", program],
    env={**os.environ, **settings},
    capture_output=True,
    text=True,
    check=True,
  )
  seconds, _, message = done.stdout.partition(" ")
  assert "the hub did not answer within 5 s; give the folder" in message
  assert float(seconds) < 6
  assert done.stderr == ""
