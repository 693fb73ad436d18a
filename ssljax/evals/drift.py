"""Compares the scores of new texts with those on which thresholds were chosen."""

from collections.abc import Mapping

import numpy as np
from scipy import stats

RISK = 0.01  # of a warning, if both sets come from the same source


def describe(
  known: np.ndarray,
  new: np.ndarray,
  thresholds: Mapping[str, float | None],
  name: str,
) -> list[str]:
  """Says whether new texts have other scores, and how many of them are flagged.

  The two-sample test of Kolmogorov and Smirnov compares the scores. It can't tell why
  they differ: the share of harmful texts may have changed, or the kind of texts, and
  then the promised rates no longer hold.

  Args:
    known: f64 [n], scores of the texts on which the thresholds were chosen.
    new: f64 [m], scores of the new texts.
    thresholds: by aim.
    name: of the new texts.
  """
  test = stats.ks_2samp(known, new)
  differs = test.pvalue < RISK
  distance = f"largest difference between the distributions: {test.statistic:.2f}"
  meaning = (
    f"differ from those of the labelled ones ({distance}), so thresholds may no longer "
    "mean the same: label a sample of these texts, and choose them again"
    if differs
    else f"look like those of the labelled ones ({distance})"
  )
  lines = [f"{name}: the scores of its {len(new):,} texts {meaning}"]
  for aim, threshold in thresholds.items():
    if threshold is not None and differs:
      before, after = (float((scores >= threshold).mean()) for scores in (known, new))
      lines.append(
        f"  {aim} flags {after:.1%} of them; of the labelled ones {before:.1%}"
      )
  return lines
