"""Promised rates are kept in 95% of all draws of the labelled texts."""

import numpy as np
import pytest
from scipy import special, stats

from ssljax.aims import parse
from ssljax.evals import decisions, promises, thresholds
from ssljax.evals.scored import ScoredTexts
from ssljax.evals.thresholds import Scored, promise

DRAWS = 1000
# A correct promise is kept in fewer of 1,000 draws once in 1,000 tests.
KEPT = int(stats.binom.ppf(0.001, DRAWS, promises.CONFIDENCE))
HARMFUL = 0.3  # share of harmful texts
SHIFT = 2.5  # margins are normal around -1, and around -1 + SHIFT if harmful
GRID = special.expit(thresholds.MARGINS)


def draw(random, n, shift=SHIFT):
  harmful = random.random(n) < HARMFUL
  return Scored(special.expit(random.normal(size=n) - 1 + shift * harmful), harmful)


def texts(drawn):
  margin = special.logit(drawn.score)
  logits = np.stack([0 * margin, margin], 1).astype(np.float32)
  return ScoredTexts(logits, drawn.harmful.astype(np.int64))


def keeps(aim, threshold, shift=SHIFT):
  """Whether a threshold keeps an aim on all texts that could be drawn."""
  margin = special.logit(min(threshold, 1.0))
  fpr, recall = stats.norm.sf(margin + 1), stats.norm.sf(margin + 1 - shift)
  flagged = HARMFUL * recall + (1 - HARMFUL) * fpr
  return {
    "fpr": fpr <= aim.value,
    "recall": recall >= aim.value,
    "review": flagged <= aim.value,
    "precision": HARMFUL * recall >= aim.value * flagged,
  }[aim.kind]


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 200, 1000])
@pytest.mark.parametrize(
  "name",
  ["fpr=1%", "fpr=10%", "recall=80%", "recall=95%", "review=20%", "precision=80%"],
)
def test_a_promise_is_kept(name, n):
  random, aim = np.random.default_rng(n), parse(name)
  outcomes = [promise(aim, draw(random, n), GRID) for _ in range(DRAWS)]
  promised = [outcome.promise for outcome in outcomes if outcome.promise]
  instead = [outcome.tightest for outcome in outcomes if outcome.tightest]
  assert len(promised) + len(instead) == DRAWS
  broken = sum(not keeps(aim, one.threshold) for one in promised)
  broken += sum(
    not keeps(aim._replace(value=one.rate), one.threshold) for one in instead
  )
  assert DRAWS - broken >= KEPT
  if name == "fpr=1%":  # it takes 299 harmless texts
    assert len(promised) == DRAWS * (n == 1000)
  if n == 1000 and name != "recall=95%":
    # Promises aren't empty: a slightly looser threshold would break the aim.
    assert len(promised) > 0.9 * DRAWS
    looser = {"recall": 0.5, "precision": -1.0}.get(aim.kind, -0.5)
    moved = [special.expit(special.logit(one.threshold) + looser) for one in promised]
    assert np.mean([keeps(aim, threshold) for threshold in moved]) < 0.5


@pytest.mark.slow
def test_the_rule_of_a_run_keeps_its_promises():
  """Also if the checkpoint is the best of 20, and with its temperature."""
  random, broken = np.random.default_rng(200), {"fpr=10%": 0, "precision=80%": 0}
  for _ in range(DRAWS):
    shifts = random.uniform(0.5, 3.0, 20)
    sets = [draw(random, 40, shift) for shift in shifts]
    best = np.argmax([((s.score > 0.5) == s.harmful).mean() for s in sets])
    held_back = texts(draw(random, 200, shifts[best]))
    rule = decisions.fit_rule(texts(sets[best]), [*broken], held_back)
    for name, entry in rule.thresholds.items():
      if entry["promise"]:
        margin = special.logit(min(entry["threshold"], 1.0)) * rule.temperature
        broken[name] += not keeps(parse(name), special.expit(margin), shifts[best])
  assert DRAWS - max(broken.values()) >= KEPT


@pytest.mark.slow
@pytest.mark.parametrize("n", [200, 1000])
def test_a_promise_is_kept_by_the_best_of_many_checkpoints(n):
  """They are compared on validation; the promise comes from other texts."""
  random, aim, broken = np.random.default_rng(n), parse("fpr=10%"), 0
  for _ in range(DRAWS):
    shifts = random.uniform(0.5, 3.0, 20)
    sets = [draw(random, 40, shift) for shift in shifts]
    shift = shifts[np.argmax([((s.score > 0.5) == s.harmful).mean() for s in sets])]
    outcome = promise(aim, draw(random, n, shift), GRID)
    broken += not keeps(aim, outcome.promise.threshold, shift)
  assert DRAWS - broken >= KEPT


@pytest.mark.parametrize("n", [50, 200, 1000])
def test_a_threshold_without_a_promise_often_breaks_its_aim(n):
  """So the tests above can fail."""
  random, aim, broken = np.random.default_rng(n), parse("fpr=10%"), 0
  for _ in range(DRAWS):
    broken += not keeps(aim, thresholds.choose(aim, draw(random, n)))
  assert broken > DRAWS / 3


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05, 0.3])
def test_bounds_equal_scipys_exact_intervals(rate):
  for texts in (1, 20, 299, 1000, 5000):
    allowed = promises.allowed_errors(texts, rate)
    for errors in range(min(texts, 20)):
      test = stats.binomtest(errors, texts, rate, alternative="less")
      interval = test.proportion_ci(promises.CONFIDENCE, method="exact")
      assert promises.upper_bound(errors, texts) == pytest.approx(interval.high)
      assert (errors <= allowed) == (test.pvalue <= 1 - promises.CONFIDENCE)
  for errors in (0, 5):
    texts = promises.texts_needed(rate, errors)
    assert promises.allowed_errors(texts, rate) >= errors
    assert promises.allowed_errors(texts - 1, rate) < errors


def test_equal_scores_are_flagged_together():
  score = np.array([0.9] * 30 + [0.5] * 30 + [0.1] * 40)
  harmful = np.arange(100) % 10 == 0
  outcome = promise(parse("fpr=10%"), Scored(score, harmful), GRID)
  assert outcome.promise.threshold > 0.9  # 27 false alarms at once are too many
  assert outcome.promise.errors == 0


def test_aims_without_promises():
  texts = draw(np.random.default_rng(0), 500)
  assert promise(parse("best_f1"), texts, GRID) is None
  assert promise(parse("cost=10:1"), texts, GRID) is None
  nothing = Scored(np.array([0.5]), np.array([True]))
  assert promise(parse("fpr=5%"), nothing, GRID) == (None, None, 0)
