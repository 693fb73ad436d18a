"""The files of configs/augment: their keys fit the engines, and their commands run."""

import importlib
import inspect
import shutil

import pytest
from ssljax.configs.augment import base, llm

from ssljax.augment import engines
from tests import runs
from tests.augment import folders

CONFIGS = ["adversarial", "backtranslation", "custom", "eda"]
CONFIGS += [f"llm:{variant}" for variant in llm.VARIANTS]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_is_shared_or_a_keyword_of_the_engine(name):
  file, *variant = name.split(":")
  module = importlib.import_module(f"ssljax.configs.augment.{file}")
  config = module.get_config(*variant)
  engine = importlib.import_module(f"ssljax.augment.engines.{config.engine}")
  if not hasattr(engine, "make"):  # a package
    engine = importlib.import_module(f"{engine.__name__}.engine")
  keywords = set(inspect.signature(engine.make).parameters)
  assert set(config) - set(base.get_config(config.engine)) <= keywords
  assert keywords - set(config) <= {"data"}  # from the pipeline


def test_every_engine_has_a_config():
  assert {name.split(":")[0] for name in CONFIGS} == set(engines.names())


@pytest.mark.parametrize(
  "name",
  [
    pytest.param("adversarial", marks=pytest.mark.slow),
    "backtranslation",
    pytest.param("eda", marks=pytest.mark.slow),
  ],
)
def test_the_command_in_the_docstring(tmp_path, name):
  if name == "backtranslation" and not shutil.which("apertium"):
    pytest.skip(reason="apt-get install -y apertium apertium-eng-spa")
  data = folders.make_folder(tmp_path / "data", 12)
  config = f"--config={runs.ROOT}/configs/augment/{name}.py"
  result = runs.command("ssljax.augment", config, f"--data={data}")
  assert result.returncode == 0, result.stderr
  counts = folders.read_report(data, name)["counts"]
  assert counts["texts"] == 12
  assert counts["views"] >= 6
  texts = folders.read_train(data)["text"].to_pylist()
  views = folders.read_views(data, name)
  assert [len(row) for row in views] == [1] * 12
  unchanged = sum(row == [text] for text, row in zip(texts, views, strict=True))
  assert unchanged == counts.get("fallbacks", 0)
