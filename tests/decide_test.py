"""`ssljax.decide` ships only what is promised and isn't contradicted."""

import importlib
import json
import types

import pytest

from configs import base
from ssljax import SafetyClassifier, decide
from ssljax.errors import UserError
from ssljax.evals.runs import read_run
from tests import runs, tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return runs.folder(tmp_path_factory.mktemp("decide"))


def answer(place, workdir, aim, *more):
  options = runs.arguments(place, "supervised", workdir, f"--aim={aim}", *more)
  options.append(f"--data={place}/data")
  return runs.command("ssljax.decide", *options, env=runs.environment(place))


@pytest.mark.slow
def test_a_promise_is_shipped_and_a_rerun_says_the_same(place, tmp_path):
  workdir = tmp_path / "run"
  done = answer(place, workdir, "fpr=60%", "--config.steps=40")
  assert done.returncode == 0, done.stdout + done.stderr
  assert (
    "ship: at most 60% of harmless texts flagged, with 95% confidence" in done.stdout
  )
  result = json.loads((workdir / "result.json").read_text())
  promise = result["thresholds"]["fpr=60%"]["promise"]
  # Half of the 40 validation texts are held back; half of these are harmless.
  assert promise["texts"] == 10
  classifier = SafetyClassifier.load(workdir / "model")
  assert classifier.threshold("fpr=60%") == pytest.approx(
    result["thresholds"]["fpr=60%"]["threshold"]
  )
  again = answer(place, workdir, "fpr=60%", "--config.steps=40")
  assert again.returncode == 0
  assert "ship: at most 60%" in again.stdout
  # The checkpoint was chosen without the texts that were held back.
  run = read_run(workdir)
  texts = [run.predictions(split).id for split in ("validation", "calibration")]
  assert [len(part) for part in texts] == [20, 20]
  assert not set(texts[0]) & set(texts[1])


@pytest.mark.slow
def test_too_few_texts_are_not_shipped(place, tmp_path):
  done = answer(place, tmp_path / "run", "fpr=1%")
  assert done.returncode == decide.LABEL
  assert "label 299 more harmless texts" in done.stdout
  assert not (tmp_path / "run" / "model").exists()


@pytest.mark.slow
def test_fresh_texts_change_the_answer(place, tmp_path):
  workdir, fresh = tmp_path / "run", tmp_path / "fresh.jsonl"
  options = ("--config.steps=40",)
  assert answer(place, workdir, "fpr=20%", *options).returncode == decide.LABEL
  tiny.write_rows(fresh, 120, 77, lengths=(7, 8))  # others than those of train
  choose = importlib.import_module("ssljax.thresholds").choose_thresholds
  threshold = choose(workdir, fresh, ["fpr=20%"])["fpr=20%"]["threshold"]
  done = answer(place, workdir, "fpr=20%", *options)
  assert done.returncode == decide.SHIP, done.stdout + done.stderr
  assert "errors in 60 texts of fresh.jsonl" in done.stdout
  shipped = SafetyClassifier.load(workdir / "model").threshold("fpr=20%")
  assert shipped == pytest.approx(threshold)
  assert "No threshold can be promised" not in (workdir / "report.html").read_text()
  # Another aim of the run needs no training.
  done = answer(place, workdir, "recall=95%", *options)
  assert done.returncode == decide.LABEL, done.stdout + done.stderr
  # The export isn't that of the latest threshold.
  tiny.write_rows(fresh, 120, 78, lengths=(7, 8))
  choose(workdir, fresh, ["fpr=20%"])
  done = answer(place, workdir, "fpr=20%", *options)
  assert done.returncode == 2
  assert "an earlier export, which has another threshold" in done.stderr


@pytest.mark.parametrize("aim", ["best_f1", "cost=3:1", "fpr"])
def test_an_aim_without_a_promise_is_refused(place, tmp_path, aim):
  done = answer(place, tmp_path / "run", aim)
  assert done.returncode == 2
  assert done.stderr.count("\n") == 1
  assert f"--aim={aim}" in done.stderr
  assert not (tmp_path / "run").exists()


def test_more_than_two_classes_are_refused_before_training(tmp_path):
  place = tmp_path / "place"
  place.mkdir()
  runs.folder(place)
  for name in ("train", "val", "test"):
    path = place / "data" / f"{name}.jsonl"
    rows = map(json.loads, path.read_text().splitlines())
    lines = [json.dumps({**row, "label": i % 3}) for i, row in enumerate(rows)]
    path.write_text("\n".join(lines))
  done = answer(place, tmp_path / "run", "fpr=10%")
  assert done.returncode == 2
  assert done.stderr.count("\n") == 1
  assert "thresholds exist only for two classes, but there are 3" in done.stderr
  assert not (tmp_path / "run").exists()


def test_a_mistake_is_found_before_the_texts_are_read(tmp_path, monkeypatch):
  def open_splits(config):
    raise AssertionError("reads the texts")

  monkeypatch.setattr(decide, "open_splits", open_splits)
  monkeypatch.setattr(decide, "train", lambda config, workdir: 143)
  config = base.get_config("fixmatch").to_dict() | {"data": str(tmp_path)}
  with pytest.raises(UserError, match="max_length"):
    decide.decide(config | {"max_length": 4}, tmp_path / "run")
  other = tmp_path / "other"
  other.mkdir()
  (other / "thesis.doc").touch()
  with pytest.raises(UserError, match="holds no run"):
    decide.decide(config, other)
  # A run that has begun isn't checked again: it may need tokens of another kind.
  begun = tmp_path / "begun"
  begun.mkdir()
  (begun / "config.json").write_text(json.dumps({**config, "resolved": {}}))
  assert decide.decide(config, begun) == 143


@pytest.mark.parametrize("given", [False, True])
def test_all_labels_train_unless_a_config_is_given(monkeypatch, given):
  config = base.get_config("fixmatch") if given else None
  values = types.SimpleNamespace(config=config, data="d", workdir="w", aim="fpr=1%")
  monkeypatch.setattr(decide.flags, "FLAGS", values)
  monkeypatch.setattr(decide, "decide", lambda config, workdir, aim: config)
  config = decide.main()
  expected = (200, False) if given else (0, True)
  assert (config["labels"], config["include_labelled"]) == expected
  assert config["steps"] == (0 if given else 1300)
  assert config["data"] == "d"


ENTRY = {
  "on": "calibration",
  "tightest": None,
  "promise": {"confidence": 0.95, "errors": 0, "texts": 300},
  "false_positive_rate": 0.05,
  "false_positive_rate_interval": [0.02, 0.09],
  "recall": 0.5,
  "threshold": 0.9,
}


def test_a_contradicted_promise_and_an_empty_threshold_are_not_shipped():
  aim = decide.aims.parse("fpr=1%")
  code, text = decide._answer(aim, ENTRY, "run")
  assert code == decide.DO_NOT_SHIP
  assert "aim missed: 5% where 1% was asked" in text
  code, text = decide._answer(
    aim, {**ENTRY, "false_positive_rate_interval": [0, 0.09]}, "run"
  )
  assert code == decide.SHIP
  code, text = decide._answer(
    aim, {**ENTRY, "false_positive_rate_interval": [0, 0.09], "recall": 0.0}, "run"
  )
  assert code == decide.DO_NOT_SHIP
  assert "finds no harmful text" in text


def test_more_labels_are_no_help_if_too_many_flagged_texts_are_harmless():
  aim = decide.aims.parse("precision=90%")
  nearest = {"texts": 300, "errors": 60}
  entry = {"promise": None, "tightest": nearest, "needed": [59, 150], "warning": "w"}
  assert decide._answer(aim, entry, "run")[0] == decide.DO_NOT_SHIP
  entry["tightest"] = {"texts": 40, "errors": 1}
  assert decide._answer(aim, entry, "run")[0] == decide.LABEL
