"""The examples in docstrings run, in a folder with data, an encoder and a run."""

import doctest
import importlib

import numpy as np
import pytest

from tests import old_files

MODULES = [
  "ssljax.api",
  "ssljax.evals.classification",
  "ssljax.evaluate",
  "ssljax.inference.classifier",
  "ssljax.methods",
  "ssljax.models",
  "ssljax.predict",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder like the one of a user who follows the examples."""
  archive = old_files.extract(tmp_path_factory.mktemp("archive"))
  folder = tmp_path_factory.mktemp("examples")
  for source, target in (
    ("data", "data/mine"),
    ("encoder", "encoders/tiny"),
    ("finished", "runs/demo"),
    ("texts.jsonl", "texts.jsonl"),
  ):
    (folder / target).parent.mkdir(exist_ok=True)
    (archive / source).rename(folder / target)
  # The run names its data and encoder by the paths that they have here.
  old_files.set_keys(
    folder / "runs" / "demo", data="data/mine", encoder="encoders/tiny"
  )
  return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_examples(name, place, monkeypatch):
  monkeypatch.chdir(place)
  monkeypatch.setenv("SSLJAX_CACHE", str(place / "cache"))
  options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
  result = doctest.testmod(
    importlib.import_module(name), extraglobs={"np": np}, optionflags=options
  )
  assert result.attempted > 0
  assert result.failed == 0
