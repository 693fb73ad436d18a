"""Metrics of a set, decision rules of runs, and the output folder of `evaluate`."""

import importlib
import json
import math
import types

import numpy as np
import pytest
from scipy import stats

from ssljax.config import KEYS
from ssljax.data.records.records import from_rows
from ssljax.errors import UserError
from ssljax.evals import decisions, evaluation
from ssljax.evals.decisions import DecisionRule
from ssljax.evals.evaluation import set_metrics
from ssljax.evals.predictions import PREDICTIONS, write_predictions
from ssljax.evals.scored import ScoredTexts
from tests.evals import run_folders

evaluate = importlib.import_module("ssljax.evaluate")  # ssljax.evaluate is a function
AIMS = KEYS["aims"].default
UNCALIBRATED = DecisionRule(1.0, {}, {})


@pytest.fixture
def workdir(tmp_path):
  return run_folders.make_run(tmp_path / "run")


def random_texts(n=200, classes=2, seed=0):
  random = np.random.default_rng(seed)
  label = random.integers(0, classes, n)
  return ScoredTexts(run_folders.make_logits(random, label, classes, 1.0), label)


def wilson(count, total):
  interval = stats.binomtest(int(count), int(total)).proportion_ci(method="wilson")
  return [interval.low, interval.high]


@pytest.mark.parametrize("classes", [2, 3])
def test_proportions_have_wilsons_interval_and_other_metrics_a_bootstrap(classes):
  texts = random_texts(classes=classes)
  metrics = set_metrics(texts, decisions.fit_rule(texts, AIMS))
  predicted, label = texts.logits.argmax(1), texts.label
  expected = wilson((predicted == label).sum(), 200)
  assert metrics["accuracy_interval"] == pytest.approx(expected)
  if classes == 2:
    caught = ((predicted == 1) & (label == 1)).sum()
    expected = wilson(caught, (label == 1).sum())
    assert metrics["recall_interval"] == pytest.approx(expected)
  for name in ("precision", "recall", "f1", "macro_f1", "auroc", "auprc", "brier"):
    low, high = metrics[f"{name}_interval"]
    assert low < metrics[name] < high


def test_a_threshold_that_flags_nothing_does_not_have_a_certain_rate():
  texts = random_texts(400)
  rule = decisions.fit_rule(texts, AIMS)
  rule.thresholds["fpr=1%"]["threshold"] = 1.0
  metrics = evaluation.threshold_metrics(texts, rule)["fpr=1%"]
  assert (metrics["false_positive_rate"], metrics["precision"]) == (0.0, None)
  low, high = metrics["false_positive_rate_interval"]
  assert low == 0
  assert 0.01 < high < 0.03  # not [0, 0]
  assert metrics["precision_interval"] is None


@pytest.mark.parametrize("all_correct", [False, True])
def test_f1_of_0_or_1_is_not_certain(all_correct):
  label = np.array([0] * 30 + [1] * 20)
  logits = np.zeros((50, 2), np.float32)
  logits[np.arange(50), label if all_correct else 0] = 1.0
  metrics = set_metrics(ScoredTexts(logits, label), UNCALIBRATED)
  assert metrics["f1"] == all_correct
  low, high = metrics["f1_interval"]
  # 20 texts are harmful or flagged; either all of them are both, or none is.
  expected = [2 * share / (1 + share) for share in wilson(20 * all_correct, 20)]
  assert [low, high] == pytest.approx(expected)
  assert 0.05 < high - low < 0.5


def test_a_missing_interval_has_a_reason():
  texts = ScoredTexts(np.eye(2, dtype=np.float32), np.array([0, 1]))
  metrics = set_metrics(texts, UNCALIBRATED)
  # Half of the resamples contain one class only.
  assert (metrics["auroc"], metrics["auroc_interval"]) == (1.0, None)
  assert metrics["undefined"] == dict.fromkeys(
    [f"{n}_interval" for n in ("balanced_accuracy", "macro_f1", "auroc", "auprc")],
    evaluation.TOO_FEW_RESAMPLES,
  )


def test_the_most_confident_errors_come_first():
  logits = np.array([[0, 3], [0, 1], [0, 9], [2, 0], [5, 0]], np.float32)
  label = np.array([0, 0, 1, 1, 1])
  assert evaluation.most_confident_errors(logits, label).tolist() == [4, 0, 3, 1]
  assert evaluation.most_confident_errors(logits, label, 2).tolist() == [4, 0]


def test_a_decision_rule_applies_to_one_checkpoint_only(workdir):
  result = json.loads((workdir / "result.json").read_text())
  rule = decisions.read_rule(workdir, result["step"])
  assert rule.temperature == result["temperature"]
  assert rule.thresholds["fpr=5%"]["threshold"] is not None
  with pytest.raises(UserError, match=r"checkpoint of step 20 .* apply to step 10"):
    decisions.read_rule(workdir, 10)


def test_an_unfinished_run_has_no_decision_rule_and_a_damaged_one_is_refused(workdir):
  path = workdir / "result.json"
  content = path.read_text()
  damaged = (content[: len(content) // 2], "[]", "{}", '{"thresholds": {"fpr=1%": 3}}')
  for text in damaged:
    path.write_text(text)
    with pytest.raises(UserError, match=r"result\.json: cannot be read"):
      decisions.read_rule(workdir, 20)
  for name, value in (("temperature", 0), ("temperature", math.nan)):
    path.write_text(json.dumps({**json.loads(content), name: value}))
    with pytest.raises(UserError, match=rf"{name}={value}: it must be 0\.05 to 20"):
      decisions.read_rule(workdir, 20)
  path.write_text(content.replace('"threshold": 0.', '"threshold": 10.'))
  with pytest.raises(UserError, match=r"=10\.\d+: it must be 0 to 1"):
    decisions.read_rule(workdir, 20)
  path.unlink()
  rule = decisions.read_rule(workdir, 20)
  assert (rule.temperature, rule.thresholds) == (1.0, {})
  assert "not finished" in rule.undefined["temperature"]


ROWS = from_rows(
  [
    {"id": f"test:{i}", "text": text, "label": i}
    for i, text in enumerate(("calm tea", "acid burn"))
  ]
)
IDENTITY = {"data": "/a/test.jsonl", "workdir": "/runs/a", "params_sha256": "a"}


@pytest.fixture
def evaluated(tmp_path):
  """A folder with an evaluation of ROWS."""
  (tmp_path / "metrics.json").write_text(json.dumps(IDENTITY))
  write_predictions(tmp_path / PREDICTIONS, ROWS, np.zeros((2, 2), np.float32))
  return tmp_path


def check_same(output, rows=ROWS, **identity):
  evaluate._check_same(output, evaluate._claim(output), IDENTITY | identity, rows)


def test_an_evaluation_never_replaces_another(evaluated):
  message = "holds the evaluation of /a/test.jsonl by /runs/a"
  with pytest.raises(UserError, match=message):
    check_same(evaluated, workdir="/runs/b", params_sha256="b")
  with pytest.raises(UserError, match=message):
    check_same(evaluated, ROWS.take(np.array([1, 0])), data="/b/test.jsonl")
  (evaluated / PREDICTIONS).unlink()  # a kill came before they were written
  with pytest.raises(UserError, match=message):
    check_same(evaluated, data="/b/test.jsonl")
  check_same(evaluated)


def test_a_run_and_data_that_have_moved_are_evaluated_again(evaluated):
  check_same(evaluated, workdir="/runs/b", data="/b/test.jsonl")
  check_same(evaluated, params_sha256="b")  # the run has continued since
  # So has this one, which has been moved as well.
  check_same(evaluated, workdir=str(evaluated.parent), params_sha256="b")
  renamed = [{"id": f"mine:{i}"} for i in range(2)]
  rows = [old | new for old, new in zip(ROWS.table.to_pylist(), renamed, strict=True)]
  check_same(evaluated, from_rows(rows), data="/b/mine.jsonl")


@pytest.mark.parametrize("content", ["{}", "[]", '{"f1": 1}', "x"])
def test_a_foreign_file_of_metrics_is_kept(tmp_path, content):
  (tmp_path / "metrics.json").write_text(content)
  with pytest.raises(UserError, match="cannot be used"):
    evaluate._claim(tmp_path)


def test_only_a_folder_that_is_its_own_is_swept(tmp_path, monkeypatch):
  left = tmp_path / ".metrics.0123456789abcdef.json"
  also = tmp_path / ".predictions.0123456789abcdef.parquet"
  kept = tmp_path / ".notes.0123456789abcdef.json"
  for path in (left, also, kept):
    path.touch()
  trained = types.SimpleNamespace(params={})
  monkeypatch.setattr(evaluate, "load_trained", lambda _: trained)
  monkeypatch.setattr(evaluate.pytrees, "sha256", lambda _: "0")

  def start():
    evaluate._evaluate(tmp_path, {}, [], {}, tmp_path, {"data": "d", "workdir": "w"})

  foreign = tmp_path / "metrics.json"
  foreign.write_text("{}")
  with pytest.raises(UserError, match="does not belong to an evaluation"):
    start()
  assert left.exists()
  foreign.unlink()
  with pytest.raises(AttributeError):  # it continues, but has no encoder
    start()
  assert [path.name for path in tmp_path.iterdir()] == [kept.name]
