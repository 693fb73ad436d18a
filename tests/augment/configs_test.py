"""The files of configs/augment: their keys are those of the engines, and they run."""

import importlib
import inspect
import shutil
import subprocess
import sys

import pytest

from configs.augment import base, llm
from ssljax.augment import engines
from tests.augment import places

FILES = ["adversarial", "backtranslation", "custom", "eda"]
FILES += [f"llm:{variant}" for variant in llm.VARIANTS]


@pytest.mark.parametrize("name", FILES)
def test_every_key_is_the_pipeline_s_or_a_keyword_of_the_engine(name):
  file, *variant = name.split(":")
  config = importlib.import_module(f"configs.augment.{file}").get_config(*variant)
  engine = importlib.import_module(f"ssljax.augment.engines.{config.engine}")
  shared = base.get_config(config.engine)
  taken = inspect.signature(engine.make).parameters
  assert set(config) - set(shared) <= set(taken)
  # What an engine takes beside is what the pipeline gives it.
  assert set(taken) - set(config) <= {"data"}


def test_every_engine_has_a_config():
  assert {name.split(":")[0] for name in FILES} == set(engines.names())


@pytest.mark.parametrize(
  "name",
  ["adversarial", "backtranslation", pytest.param("eda", marks=pytest.mark.slow)],
)
def test_the_command_of_its_first_lines(tmp_path, name):
  if name == "backtranslation" and not shutil.which("apertium"):
    pytest.skip(reason="apt-get install -y apertium apertium-eng-spa")
  data = places.folder(tmp_path / "data", 12)
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "ssljax.augment",
      f"--config={places.ROOT}/configs/augment/{name}.py",
      f"--data={data}",
    ],
    cwd=places.ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  counts = places.report(data, name)["counts"]
  assert counts["texts"] == 12
  assert counts["views"] >= 6
  texts, views = places.read(data)["text"].to_pylist(), places.views(data, name)
  assert [len(some) for some in views] == [1] * 12
  same = sum(some == [text] for text, some in zip(texts, views, strict=True))
  assert same == counts.get("fallbacks", 0)
