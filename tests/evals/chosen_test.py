"""Thresholds for aims that the config of a run doesn't have."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

import ssljax
from ssljax import SafetyClassifier
from ssljax.aims import parse
from ssljax.errors import UserError
from ssljax.evals import chosen, decisions
from ssljax.evals import runs as finished
from ssljax.evals.scored import ScoredTexts

AIMS = ("fpr=20%", "recall=70%", "precision=60%", "review=40%", "cost=3:1")


@pytest.fixture
def run(old_runs, tmp_path, monkeypatch):
  monkeypatch.chdir(old_runs)
  return shutil.copytree(old_runs / "finished", tmp_path / "run")


def hold_back(run):
  """Moves every third validation text to the calibration texts."""
  folder = run / "predictions"
  table = pq.read_table(folder / "validation.parquet")
  for name, keep in (("calibration", True), ("validation", False)):
    rows = [i for i in range(len(table)) if (i % 3 == 0) is keep]
    pq.write_table(table.take(rows), folder / f"{name}.parquet")


@pytest.mark.parametrize("calibration", [False, True])
def test_the_threshold_is_the_one_that_the_run_would_have_chosen(run, calibration):
  if calibration:
    hold_back(run)
  names = ("validation", "calibration") if calibration else ("validation",)
  saved = map(finished.read_run(run).predictions, names)
  validation, *rest = (ScoredTexts(s.logits, s.label) for s in saved)
  rule = decisions.fit_rule(validation, AIMS, *rest)
  for aim in AIMS:
    entry = chosen.for_aim(run, rule.temperature, parse(aim))
    assert entry == rule.thresholds[aim]
    assert entry["threshold"] is not None


def test_evaluate_measures_them(run, tmp_path, capsys):
  plain = ssljax.evaluate(run, output=tmp_path / "plain")
  metrics = ssljax.evaluate(run, output=tmp_path / "more", wanted=["fpr=20%", "fpr=1%"])
  added = metrics["thresholds"].pop("fpr=20%")
  assert metrics["thresholds"] == plain["thresholds"]
  assert added["threshold"] == SafetyClassifier.load(run).threshold("fpr=20%")
  printed = capsys.readouterr().out
  rate = added["false_positive_rate"]
  assert (
    f"fpr=20%: threshold {added['threshold']:.4g}; here false positive rate {rate:.3f}"
    in printed
  )
  page = (tmp_path / "more" / "report.html").read_text()
  assert "at most 20% of harmless texts flagged" in page


@pytest.mark.parametrize(
  ("aim", "reason"), [("fpr=0%", "is not an aim"), ("0.5", "is not an aim")]
)
def test_evaluate_refuses_what_is_no_aim(run, tmp_path, aim, reason):
  with pytest.raises(UserError, match=f"--aim={aim}: .*{reason}"):
    ssljax.evaluate(run, output=tmp_path / "out", wanted=[aim])
  assert not (tmp_path / "out").exists()


def test_an_unfinished_run_has_no_validation_texts_to_choose_on(run, tmp_path):
  (run / "result.json").unlink()
  with pytest.raises(UserError, match="--aim=fpr=2%: the run is not finished"):
    ssljax.evaluate(run, output=tmp_path / "out", wanted=["fpr=2%"])
  with pytest.raises(UserError, match="the run isn't finished"):
    SafetyClassifier.load(run).threshold("fpr=2%")


def test_predict_takes_any_aim_of_a_run_and_says_what_it_does_not_promise(
  run, tmp_path
):
  texts, output = tmp_path / "texts.jsonl", tmp_path / "out.jsonl"
  texts.write_text(json.dumps({"text": "calm harm"}))
  printed = ssljax.predict(run, texts, output, threshold="fpr_20%")
  threshold = SafetyClassifier.load(run).threshold("fpr=20%")
  row = json.loads(output.read_text())
  assert row["flagged"] is (row["score"] >= threshold)
  assert f"flagged at {threshold:.7g}" in printed
  assert "this threshold is not promised" in printed


def test_an_exported_folder_knows_only_its_own_aims(model):
  classifier = SafetyClassifier.load(model)
  with pytest.raises(UserError, match=r"python -m ssljax\.thresholds --aim=fpr=20%"):
    classifier.threshold("fpr=20%")
