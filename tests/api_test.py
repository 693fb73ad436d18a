"""The public API: `import ssljax` is enough, in any order of imports and any thread."""

import json
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import ssljax
from tests import runs

ORDERS = [
  "import ssljax.train, ssljax.evaluate, ssljax.predict; import ssljax as s",
  "import ssljax as s; s.train; s.evaluate; import ssljax.train, ssljax.evaluate",
]


@pytest.mark.slow
@pytest.mark.parametrize("imports", ORDERS)
def test_train_is_the_function_whatever_is_imported_first(imports):
  code = (
    f"{imports}\n"
    "import importlib, inspect\n"
    "assert inspect.isfunction(s.train), s.train\n"
    "assert inspect.isfunction(s.evaluate), s.evaluate\n"
    "assert inspect.isfunction(s.predict), s.predict\n"
    "assert inspect.ismodule(importlib.import_module('ssljax.train'))\n"
    "from ssljax.train import run\n"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_no_jax():
  code = "import ssljax, sys; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_public_name_can_be_loaded():
  for name in ssljax.__all__:
    assert getattr(ssljax, name) is not None
  assert {*ssljax.__all__} <= {*dir(ssljax)}
  with pytest.raises(AttributeError, match="no attribute 'trian'"):
    ssljax.trian  # noqa: B018


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return runs.folder(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def config(place):
  return ssljax.load_config(
    "fixmatch",
    data=str(place / "data"),
    encoder=str(place / "encoder"),
    labels=16,
    batch=8,
    steps=8,
    max_length=32,
    eval_every=4,
  )


@pytest.fixture(scope="module")
def result(place, config):
  return ssljax.train(config, place / "run")


@pytest.mark.slow
def test_a_result_has_metrics_thresholds_and_a_classifier(result):
  assert 0 <= result.metrics["test"]["accuracy"] <= 1
  assert "best_f1" in result.thresholds
  scores = result.classifier(["kind calm help", "steal hurt harm"])
  assert scores.shape == (2,)
  assert np.all((scores >= 0) & (scores <= 1))


@pytest.mark.slow
def test_a_finished_run_is_returned_and_handlers_are_left_alone(place, config, result):
  before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
  again = ssljax.train(config, place / "run")
  assert again.metrics == result.metrics
  after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
  assert after == before


@pytest.mark.slow
def test_a_thread_trains_the_same_model(place, config, result):
  results = []
  thread = threading.Thread(
    target=lambda: results.append(ssljax.train(config, place / "thread"))
  )
  thread.start()
  thread.join()
  assert results[0].metrics["params_sha256"] == result.metrics["params_sha256"]


@pytest.mark.slow
def test_evaluate_returns_the_metrics(result):
  metrics = ssljax.evaluate(result.workdir)
  assert metrics["test"]["f1"] == pytest.approx(result.metrics["test"]["f1"])


@pytest.mark.slow
def test_predict_scores_a_file(place, result):
  texts = place / "texts.jsonl"
  texts.write_text('{"text": "kind calm help"}\n{"text": "steal hurt harm"}\n')
  summary = ssljax.predict(result.workdir, texts, place / "scored.jsonl", 0.25)
  assert "2 rows scored" in summary
  assert "at 0.25" in summary
  lines = (place / "scored.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  scores = result.classifier(["kind calm help", "steal hurt harm"])
  np.testing.assert_allclose([row["score"] for row in rows], scores, rtol=1e-6)


def test_load_config_changes_keys_at_any_depth():
  config = ssljax.load_config(
    "fixmatch:response+abc", labels=50, strong="llm", method={"threshold": 0.8}
  )
  assert (config.labels, config.strong, config.max_length) == (50, ("llm",), 1024)
  assert (config.method.threshold, config.wrapper.name) == (0.8, "abc")
  with pytest.raises(AttributeError):
    config.learning_rat = 1


@pytest.mark.parametrize(
  ("source", "changes", "message"),
  [
    ("fixmach", {}, "did you mean 'fixmatch'"),
    ("none.py", {}, "no file none.py"),
    ("fixmatch", {"learning_rat": 1}, "did you mean 'learning_rate'"),
    ("fixmatch", {"method": {"treshold": 1.0}}, "did you mean 'threshold'"),
    ("fixmatch", {"steps": "many"}, "steps='many'"),
  ],
)
def test_load_config_names_mistakes(source, changes, message):
  with pytest.raises(ssljax.UserError, match=message):
    ssljax.load_config(source, **changes)


def test_another_method_starts_from_its_own_defaults():
  config = ssljax.load_config("fixmatch", method={"name": "uda", "scale": 2.0})
  assert config.method.threshold == 0.8
  assert config.method.scale == 2.0
  assert ssljax.load_config("fixmatch", strong="llm,words").strong == ("llm", "words")


def test_keywords_that_a_config_leaves_out_are_filled_in(place, config, result):
  keys = config.to_dict() | {"method": {"name": "fixmatch"}}
  del keys["method"]["name"]
  with pytest.raises(ssljax.UserError, match=r"--config\.method=.*give a name"):
    ssljax.train(keys, place / "nameless")
  keys["method"] = {"name": "fixmatch"}
  again = ssljax.train(keys, place / "run")  # the finished run has all keywords
  assert again.metrics == result.metrics


@pytest.mark.parametrize("key", ["dry_run", "distributed"])
def test_what_only_the_command_can_do_is_refused(place, config, key):
  with pytest.raises(ssljax.UserError, match=f"{key}=True is for python -m"):
    ssljax.train(config.to_dict() | {key: True}, place / "refused")


def test_train_names_a_mistake_before_it_writes(place, config):
  bad = config.copy_and_resolve_references()
  with bad.unlocked():
    bad.learning_rat = 1.0
  with pytest.raises(ssljax.UserError, match="did you mean 'learning_rate'"):
    ssljax.train(bad, place / "bad")
  assert not (place / "bad").exists()
