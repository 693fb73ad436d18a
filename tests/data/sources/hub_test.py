"""Reads Hub datasets; failures are one line with a remedy."""

import time

import huggingface_hub
import pytest
from huggingface_hub import errors

from ssljax.data.sources import hub
from ssljax.errors import UserError


def response(code):
  """An answer of the Hub, from the HTTP library that huggingface_hub uses."""
  import inspect

  library = __import__(inspect.getmodule(errors).HfHubHTTPError.__mro__[1].__module__)
  request = library.Request("GET", "https://huggingface.co/api/datasets/made/up")
  return library.Response(code, request=request)


def failure(monkeypatch, error, gated=False):
  class Info:
    pass

  def fail(*_, **__):
    raise error

  Info.gated = gated
  if gated:
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: Info)
    monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", fail)
  else:
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fail)
  with pytest.raises(UserError) as caught:
    hub.load_hub_dataset("made/up")
  return str(caught.value)


def test_gated(monkeypatch):
  error = errors.GatedRepoError("403 Client Error.", response=response(403))
  message = failure(monkeypatch, error, gated="auto")
  assert "made/up: the dataset is gated" in message
  assert "accept its terms at https://huggingface.co/datasets/made/up" in message
  assert "HF_TOKEN" in message


@pytest.mark.parametrize("code", [401, 403])
def test_unauthorized(monkeypatch, code):
  error = errors.HfHubHTTPError("refused", response=response(code))
  assert "accept its terms" in failure(monkeypatch, error)


def test_no_such_dataset(monkeypatch):
  error = errors.RepositoryNotFoundError("404", response=response(404))
  message = failure(monkeypatch, error)
  assert "no such dataset, or it is private" in message


def test_no_network(monkeypatch):
  begin = time.perf_counter()
  message = failure(monkeypatch, ConnectionError("[Errno -2] Name not known"))
  assert "cannot be loaded from the Hugging Face Hub (ConnectionError" in message
  assert "check the network" in message
  assert "--source=FILES" in message
  assert time.perf_counter() - begin < 5


def test_a_dataset_that_needs_a_loading_script(monkeypatch):
  monkeypatch.setattr(hub, "_check_access", lambda name: None)
  datasets = pytest.importorskip("datasets")

  def fail(*_, **__):
    raise RuntimeError("Dataset scripts are no longer supported\nmore lines")

  monkeypatch.setattr(datasets, "load_dataset", fail)
  with pytest.raises(UserError) as error:
    hub.load_hub_dataset("made/up")
  assert "Dataset scripts are no longer supported" in str(error.value)
  assert "--config_name" in str(error.value)


@pytest.mark.slow
def test_rows_of_a_real_loader(tmp_path, monkeypatch):
  import datasets

  monkeypatch.setattr(hub, "_check_access", lambda name: None)
  monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
  source = tmp_path / "made"
  source.mkdir()
  (source / "train.csv").write_text("text,label\none,0\ntwo,1\n")
  (source / "test.csv").write_text("text,label\nthree,1\n")
  splits = hub.load_hub_dataset(str(source))
  assert set(splits) == {"train", "test"}
  assert splits["train"].columns == ("text", "label")
  assert list(splits["train"].rows) == [
    {"text": "one", "label": 0},
    {"text": "two", "label": 1},
  ]
