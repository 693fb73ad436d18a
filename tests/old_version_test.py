"""Runs, dataset folders and exports of version 0.1.0 still work."""

import importlib.metadata
import json
import platform
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import ssljax
from ssljax import config as keys
from ssljax import methods, run_config
from ssljax.data.batches import tokenize
from ssljax.data.records.read import read_splits
from ssljax.errors import UserError
from ssljax.options import Option
from tests import old_files, runs

pytestmark = pytest.mark.slow
# The command that started the killed run.
COMMAND = [
  f"--config={runs.ROOT}/configs/freematch.py",
  "--workdir=killed",
  "--config.data=data",
  "--config.encoder=encoder",
  "--config.labels=16",
  "--config.batch=8",
  "--config.steps=24",
  "--config.max_length=32",
  "--config.learning_rate=0.003",
  "--config.eval_every=8",
  "--config.checkpoint_every=4",
  "--config.log_every=5",
  "--config.strong=('adversarial',)",
  "--config.ema=0.9",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return old_files.extract(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def expected(place):
  return json.loads((place / "expected" / "expected.json").read_text())


def start(place, module, *arguments):
  return runs.command(module, *arguments, cwd=place, env=runs.environment(place))


def logits(path):
  return np.array(pq.read_table(path)["logits"].to_pylist())


def test_a_killed_run_continues_to_the_same_parameters(place, expected):
  done = start(place, "ssljax.main", *COMMAND)
  assert done.returncode == 0, done.stdout + done.stderr
  assert int(re.search(r"resumed at step (\d+)", done.stdout)[1]) == 8
  predictions = Path("predictions", "test.parquet")
  np.testing.assert_allclose(
    logits(place / "killed" / predictions),
    logits(place / "expected" / "test.parquet"),
    atol=1e-4,
  )
  # Bits are the same on the same kind of machine with the same compiler.
  same = (importlib.metadata.version("jaxlib"), platform.machine(), _vectors()) == (
    expected["jaxlib"],
    expected["machine"],
    expected["vectors"],
  )
  if same:
    result = runs.result(place / "killed")
    assert result["params_sha256"] == expected["params_sha256"]
    assert result["state_sha256"] == expected["state_sha256"]


def _vectors() -> str:
  """The widest vector instructions of the CPU, which decide XLA's code."""
  flags = Path("/proc/cpuinfo")
  text = flags.read_text() if flags.exists() else ""
  names = ("amx_tile", "avx512f", "avx2")
  return next((name for name in names if f" {name}" in text), "")


def test_a_finished_run_is_evaluated_as_before(place, monkeypatch):
  monkeypatch.chdir(place)
  metrics = ssljax.evaluate("finished", output="evaluation")
  before = json.loads((place / "expected" / "evaluation.json").read_text())
  assert metrics["params_sha256"] == before["params_sha256"]
  for name in ("f1", "accuracy", "auroc"):
    assert metrics["test"][name] == pytest.approx(before["test"][name], abs=1e-6)


def test_an_export_scores_as_before(place):
  classifier = ssljax.SafetyClassifier.load(place / "export")
  lines = (place / "expected" / "scores.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  scores = classifier([row["text"] for row in rows])
  np.testing.assert_allclose(scores, [row["score"] for row in rows], atol=1e-5)


@pytest.mark.parametrize("name", ["finished", "export"])
def test_special_tokens_in_a_text_are_read_as_before(place, monkeypatch, name):
  monkeypatch.chdir(place)
  tokenizer = ssljax.SafetyClassifier.load(name)._tokenizer
  tokens = tokenize.encode(tokenizer, ["calm [SEP] harm"], [None], 16)
  assert tokens.ids.tolist().count(tokenizer.sep_token_id) == 2


def test_a_finished_run_is_exported_as_before(place):
  done = start(place, "ssljax.export", "--workdir=finished", "--output=again")
  assert done.returncode == 0, done.stderr
  for file in ("model.safetensors", "2_Dense/model.safetensors"):
    assert (place / "again" / file).read_bytes() == (
      place / "export" / file
    ).read_bytes()


def test_a_dataset_folder_is_read_as_before(place):
  splits = read_splits(place / "data")
  assert len(splits.train) == 60
  views = splits.train.table["views"].to_pylist()
  assert all(view["kind"] == "adversarial" for row in views for view in row)


@pytest.fixture
def saved(place, tmp_path):
  """A workdir with the config of an old run and nothing else."""
  shutil.copy(place / "finished" / "config.json", tmp_path)
  return tmp_path


def order(default: str, absent: str) -> Option:
  """A key that version 0.1.0 did not have."""
  return Option("order", str, default, choices=("random", "sorted"), absent=absent)


def test_a_key_that_is_newer_than_the_run_keeps_its_behaviour(saved, monkeypatch):
  monkeypatch.setitem(keys.KEYS, "order", order("sorted", absent="random"))
  assert run_config.read(saved)["order"] == "random"
  command = {**run_config.read(saved), "order": "sorted"}  # today's default
  config, notes = run_config.continued(saved, command)
  assert config["order"] == "random"
  assert len(notes) == 1
  assert "order=random" in notes[0]
  assert run_config.difference(run_config.read(saved), config) == []


def test_a_keyword_whose_default_has_changed_keeps_its_value(saved):
  config = run_config.read(saved)
  old = {"name": "marginmatch", "variant": "fixed_cutoff", "cut_off": 0.0}
  old_files.set_keys(saved, method=old)
  command = {**config, "method": methods.complete({"name": "marginmatch"})}
  continued, notes = run_config.continued(saved, command)
  assert continued["method"]["cut_off"] == 0
  assert [note for note in notes if note.startswith("method.cut_off=0.0: an older")]
  assert run_config.difference(run_config.read(saved), continued) == []
  # Other values were chosen, then and now.
  old_files.set_keys(saved, method={**old, "cut_off": 1.0})
  assert run_config.continued(saved, command)[0]["method"]["cut_off"] == 2.9
  old_files.set_keys(saved, method=old)
  command["method"]["cut_off"] = 1.0
  assert run_config.continued(saved, command)[0]["method"]["cut_off"] == 1


def test_a_value_that_the_run_did_not_have_is_refused(saved, monkeypatch):
  from ssljax.training import workdir

  monkeypatch.setitem(keys.KEYS, "order", order("random", absent="random"))
  command = {**run_config.read(saved), "order": "sorted"}  # chosen by the user
  config, notes = run_config.continued(saved, command)
  assert (config["order"], notes) == ("sorted", [])
  with pytest.raises(UserError, match="order: 'random' in the run, 'sorted' now"):
    workdir.claim(saved, config)


def test_a_keyword_of_a_method_that_is_newer_than_the_run_keeps_its_behaviour(
  saved, monkeypatch
):
  newer = {"window": Option("window", int, 64, absent=0)}
  monkeypatch.setattr(
    run_config, "_keywords", lambda config: {"method": newer} if config else {}
  )
  command = run_config.read(saved)
  assert command["method"]["window"] == 0
  command["method"] = {**command["method"], "window": 64}
  config, _ = run_config.continued(saved, command)
  assert config["method"]["window"] == 0


def test_a_method_that_a_flag_chose_keeps_the_values_that_it_ran_with(saved):
  # Version 0.1.0 gave it the keywords of the config's own method, here fixmatch.
  old_files.set_keys(saved, method={"name": "uda", "threshold": 0.95, "scale": 1.0})
  command = {**run_config.read(saved), "method": methods.complete({"name": "uda"})}
  assert command["method"]["threshold"] == 0.8
  config, (note,) = run_config.continued(saved, command)
  assert note.startswith("method.threshold=0.95: an older version")
  assert run_config.difference(run_config.read(saved), config) == []
  command["method"]["threshold"] = 0.7  # chosen by the user
  assert run_config.continued(saved, command)[0]["method"] == command["method"]


def test_so_does_a_method_with_the_keywords_of_the_method_of_the_config(saved):
  old_files.set_keys(
    saved, method={"name": "defixmatch", "threshold": 0.95, "scale": 1.0}
  )
  command = {
    **run_config.read(saved),
    "method": methods.complete({"name": "defixmatch"}),
  }
  config, (note,) = run_config.continued(saved, command)
  assert note.startswith("method.scale=1.0: an older version")
  # No method has this threshold: it was chosen, so leaving it out is a difference.
  old_files.set_keys(
    saved, method={"name": "defixmatch", "threshold": 0.9, "scale": 1.0}
  )
  config, notes = run_config.continued(saved, command)
  assert notes == []
  assert "method.threshold: 0.9 in the run, 0.95 now" in run_config.difference(
    run_config.read(saved), config
  )
