"""From names to folders, without a network."""

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
from ssljax.errors import UserError
from ssljax.models import resolve

NAME = "someone/encoder"


@pytest.fixture(autouse=True)
def _manifest(monkeypatch, tmp_path):
  """A manifest with one name in it, and an empty cache of the hub."""
  import ssljax

  assets = types.ModuleType("ssljax.assets.fetch")
  assets.model_folder = lambda name: tmp_path if name == "known/model" else None
  monkeypatch.setitem(sys.modules, "ssljax.assets.fetch", assets)
  monkeypatch.setattr(ssljax, "assets", assets, raising=False)


@pytest.fixture
def net(monkeypatch):
  """A made-up hub; `net.answer` is what it knows of NAME, or what it raises."""
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


def holds(*files):
  named = [types.SimpleNamespace(rfilename=file) for file in files]
  return types.SimpleNamespace(siblings=named, sha="abc")


def http_error(kind):
  response = types.SimpleNamespace(
    headers={}, request=None, status_code=404, url="", text=""
  )
  return kind("no", response=response)


def test_a_folder_is_taken_as_it_is(tmp_path, net):
  assert resolve(str(tmp_path)) == tmp_path
  assert resolve(tmp_path) == tmp_path
  assert not net.calls


def test_the_manifest_comes_before_the_hub(tmp_path, net):
  assert resolve("known/model") == tmp_path
  assert not net.calls


@pytest.mark.parametrize(
  "name", ["./none", "/none/at/all", "a/b/c", "", "~/none", "a b"]
)
def test_a_path_is_not_asked_of_the_hub(name, net):
  with pytest.raises(UserError, match="no such folder"):
    resolve(name)
  assert not net.calls


def test_a_file_is_no_folder(tmp_path):
  file = tmp_path / "model.safetensors"
  file.write_bytes(b"")
  with pytest.raises(UserError, match="is a file; give the folder"):
    resolve(file)


def test_what_the_cache_has_needs_no_network(tmp_path, net):
  net.folder = tmp_path
  for name in ("config.json", "model.safetensors", "tokenizer.json"):
    (tmp_path / name).write_text("{}")
  assert resolve(NAME) == tmp_path
  assert net.calls == ["cache"]


@pytest.mark.parametrize("lacks", ["model.safetensors", "tokenizer.json"])
def test_a_cache_that_lacks_a_file_is_completed(tmp_path, net, lacks):
  net.folder = tmp_path
  names = ["config.json", "model.safetensors", "tokenizer.json"]
  for name in names:
    if name != lacks:
      (tmp_path / name).write_text("{}")
  net.answer = holds(*names)
  assert resolve(NAME) == tmp_path
  assert net.calls == ["cache", "ask", "download"]


def test_a_cache_that_lacks_a_shard_is_completed(tmp_path, net):
  net.folder = tmp_path
  shards = ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]
  (tmp_path / "config.json").write_text("{}")
  (tmp_path / shards[0]).write_bytes(b"")
  index = {"weight_map": dict(zip("ab", shards, strict=True))}
  (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
  net.answer = holds("config.json", *shards)
  assert resolve(NAME) == tmp_path
  assert net.calls == ["cache", "ask", "download"]


def test_only_a_pickle(net, tmp_path):
  net.answer = holds("config.json", "pytorch_model.bin")
  command = "python -m ssljax.models.convert someone/encoder FOLDER"
  with pytest.raises(UserError, match="a pickle, which is not loaded here") as error:
    resolve(NAME)
  assert command in str(error.value)
  net.folder = tmp_path
  assert resolve(NAME, pickled=True) == tmp_path


@pytest.mark.parametrize(
  ("answer", "message"),
  [
    (OSError("Name or service not known"), "the hub did not answer within 5 s"),
    (http_error(errors.RepositoryNotFoundError), "no such name on the hub"),
    (http_error(errors.GatedRepoError), "gated on the hub"),
    (holds("README.md"), "has no weights of this name"),
  ],
)
def test_no_way_to_it(answer, message, net):
  net.answer = answer
  with pytest.raises(UserError, match=message) as error:
    resolve(NAME)
  assert NAME in str(error.value)


def test_a_hub_that_hangs_is_left(net, monkeypatch):
  monkeypatch.setattr(encoders, "LIMIT", 0.2)
  net.answer = lambda: time.sleep(2)
  start = time.monotonic()
  with pytest.raises(UserError, match="did not answer"):
    resolve(NAME)
  assert time.monotonic() - start < 1


def test_a_program_without_a_network_ends_soon(tmp_path):
  # A fresh one, because huggingface_hub loads its parts when they are first asked for.
  program = (
    "import time, ssljax.models as m; from ssljax.errors import UserError\n"
    "start = time.monotonic()\n"
    "try: m.resolve('someone/encoder')\n"
    "except UserError as error: print(time.monotonic() - start, error)"
  )
  home = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
  done = subprocess.run(
    [sys.executable, "-c", program],
    env={**os.environ, **home},
    capture_output=True,
    text=True,
    check=True,
  )
  seconds, _, message = done.stdout.partition(" ")
  assert "the hub did not answer within 5 s; give the folder" in message
  assert float(seconds) < 6
  assert done.stderr == ""
