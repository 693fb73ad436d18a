"""Promises equal those of MAPIE on the same scores (learn then test)."""

import numpy as np
import pytest
from scipy import special

from ssljax.aims import parse
from ssljax.evals import promises, thresholds
from ssljax.evals.thresholds import Scored, promise

control = pytest.importorskip("mapie.risk_control")

GRID = special.expit(thresholds.MARGINS)
RISKS = {"fpr": "fpr", "recall": "recall", "review": "predicted_positive_fraction"}


def draw(seed, counts=(512, 256)):
  """Scores with ties. MAPIE divides by the counts: exactly, if they are powers of 2."""
  random = np.random.default_rng(seed)
  harmful = np.repeat([False, True], counts)
  margin = random.normal(size=len(harmful)) - 1 + 2.5 * harmful
  return Scored(special.expit(margin.round(2)), harmful)


def valid_thresholds(texts, risk, level, candidates, method):
  """Those of the candidates that MAPIE says keep the level."""
  controller = control.BinaryClassificationController(
    predict_function=lambda score: np.c_[1 - score[:, 0], score[:, 0]],
    risk=risk,
    target_level=level,
    confidence_level=promises.CONFIDENCE,
    best_predict_param_choice="recall",  # of the valid ones; unused here
    list_predict_params=candidates,
    fwer_method=method,
  )
  controller.calibrate(texts.score[:, None], texts.harmful.astype(int))
  return np.array(controller.valid_predict_params)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
  "name", ["fpr=1%", "fpr=5%", "fpr=20%", "recall=80%", "recall=95%", "review=25%"]
)
def test_fixed_sequences(name, seed):
  aim, texts = parse(name), draw(seed)
  if aim.kind == "review":
    texts = draw(seed, (384, 128))
  # Between all scores, so the same texts are flagged as at any other threshold.
  scores = np.unique(texts.score)
  candidates = np.r_[0.0, (scores[1:] + scores[:-1]) / 2, (1 + scores[-1]) / 2]
  valid = valid_thresholds(
    texts, RISKS[aim.kind], aim.value, candidates, "fixed_sequence"
  )
  expected = valid.max() if aim.kind == "recall" else valid.min()
  found = promise(aim, texts, GRID).promise
  np.testing.assert_array_equal(texts.score >= found.threshold, texts.score >= expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["precision=70%", "precision=85%"])
def test_precision_on_the_grid(name, seed):
  aim, texts = parse(name), draw(seed)
  valid = valid_thresholds(texts, "precision", aim.value, np.sort(GRID), "bonferroni")
  assert promise(aim, texts, GRID).promise.threshold == valid.min()


@pytest.mark.parametrize("texts", [298, 299])
def test_both_refuse_too_few_texts(texts):
  scores = Scored(np.full(texts + 9, 0.2), np.arange(texts + 9) < 9)
  call = (scores, "fpr", 0.01, np.array([0.1, 0.9]), "fixed_sequence")
  if texts == 298:
    with pytest.warns(UserWarning, match="No"):
      valid = valid_thresholds(*call)
  else:
    valid = valid_thresholds(*call)
  assert bool(valid.size) == bool(promise(parse("fpr=1%"), scores, GRID).promise)
  assert bool(valid.size) == (texts == 299)
