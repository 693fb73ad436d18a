"""What a set's numbers are put together from, and what of a run is believed."""

import json

import numpy as np
import pytest
from scipy import stats

from ssljax import evaluate
from ssljax.errors import UserError
from ssljax.evals import evaluation
from tests.evals import folders


@pytest.fixture
def workdir(tmp_path):
  return folders.run(tmp_path / "run")


def scored(n=200, classes=2, seed=0):
  random = np.random.default_rng(seed)
  label = random.integers(0, classes, n)
  return evaluation.Scored(folders.logits_of(random, label, classes, 1.0), label)


@pytest.mark.parametrize("classes", [2, 3])
def test_shares_have_wilsons_interval_and_the_rest_a_bootstrap(classes):
  part = scored(classes=classes)
  found = evaluation.of_set(part, evaluation.decide(part))
  right = int((part.logits.argmax(1) == part.label).sum())
  wilson = stats.binomtest(right, 200).proportion_ci(0.95, method="wilson")
  assert found["accuracy_interval"] == pytest.approx([wilson.low, wilson.high])
  caught = int(((part.logits.argmax(1) == 1) & (part.label == 1)).sum())
  if classes == 2:
    of = stats.binomtest(caught, int((part.label == 1).sum()))
    wilson = of.proportion_ci(0.95, method="wilson")
    assert found["recall_interval"] == pytest.approx([wilson.low, wilson.high])
  for name in ("precision", "recall", "f1", "macro_f1", "auroc", "auprc", "brier"):
    low, high = found[f"{name}_interval"]
    assert low < found[name] < high


def test_thresholds_that_flag_nothing_have_an_interval_that_says_so():
  part = scored(400)
  decision = evaluation.decide(part)
  decision.thresholds["fpr_1%"]["threshold"] = 1.0
  found = evaluation.thresholds(part, decision)["fpr_1%"]
  assert (found["false_positive_rate"], found["precision"]) == (0.0, None)
  low, high = found["false_positive_rate_interval"]
  assert low == 0
  assert 0.01 < high < 0.03  # and not [0, 0]
  assert found["precision_interval"] is None


@pytest.mark.parametrize("all_right", [False, True])
def test_f1_of_nothing_caught_or_nothing_wrong_is_not_certain(all_right):
  label = np.array([0] * 30 + [1] * 20)
  logits = np.zeros((50, 2), np.float32)
  logits[np.arange(50), label if all_right else 0] = 1.0
  part = evaluation.Scored(logits, label)
  found = evaluation.of_set(part, evaluation.Decision(1.0, {}, {}))
  assert found["f1"] == all_right
  low, high = found["f1_interval"]
  # 20 texts are harmful or flagged, and of them all or none are both (Wilson).
  wilson = stats.binomtest(20 * all_right, 20).proportion_ci(0.95, method="wilson")
  assert low == pytest.approx(2 * wilson.low / (1 + wilson.low))
  assert high == pytest.approx(2 * wilson.high / (1 + wilson.high))
  assert 0.05 < high - low < 0.5


def test_an_interval_that_is_lacking_has_a_reason():
  part = evaluation.Scored(np.eye(2, dtype=np.float32), np.array([0, 1]))
  found = evaluation.of_set(part, evaluation.Decision(1.0, {}, {}))
  assert (found["auroc"], found["auroc_interval"]) == (1.0, None)  # half have one class
  assert found["undefined"] == dict.fromkeys(
    [f"{n}_interval" for n in ("balanced_accuracy", "macro_f1", "auroc", "auprc")],
    evaluation.RARE,
  )


def test_the_surest_errors_come_first():
  logits = np.array([[0, 3], [0, 1], [0, 9], [2, 0], [5, 0]], np.float32)
  label = np.array([0, 0, 1, 1, 1])
  assert evaluation.surest_errors(logits, label).tolist() == [4, 0, 3, 1]
  assert evaluation.surest_errors(logits, label, 2).tolist() == [4, 0]


def test_thresholds_are_of_one_checkpoint(workdir):
  result = json.loads((workdir / "result.json").read_text())
  found = evaluation.decision_of(workdir, result["step"])
  assert found.temperature == result["temperature"]
  assert found.thresholds["fpr_5%"]["threshold"] is not None
  with pytest.raises(UserError, match=r"checkpoint of step 20, .* hold for step 10"):
    evaluation.decision_of(workdir, 10)


def test_an_unfinished_run_has_none_and_a_torn_one_is_refused(workdir):
  path = workdir / "result.json"
  whole = path.read_text()
  for torn in (whole[: len(whole) // 2], "[]", "{}", '{"thresholds": {"fpr_1%": 3}}'):
    path.write_text(torn)
    with pytest.raises(UserError, match=r"result\.json: cannot be read"):
      evaluation.decision_of(workdir, 20)
  path.unlink()
  found = evaluation.decision_of(workdir, 20)
  assert (found.temperature, found.thresholds) == (1.0, {})
  assert "not finished" in found.undefined["temperature"]


def test_an_evaluation_takes_nobody_elses_place(tmp_path):
  own = {"data": "/a/test.jsonl", "workdir": "/runs/a"}
  evaluate._claim(tmp_path / "new", own)
  (tmp_path / "new" / "metrics.json").write_text(json.dumps(own))
  evaluate._claim(tmp_path / "new", own)
  for other in ({"data": "/b/test.jsonl"}, {"workdir": "/runs/b"}):
    with pytest.raises(UserError, match="holds the evaluation of /a/test"):
      evaluate._claim(tmp_path / "new", {**own, **other})
