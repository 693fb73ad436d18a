"""How good the pseudo-labels of self-training are, and a table of its generations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ssljax.data.pseudo_labels import PseudoLabels


def quality(
  pseudo: PseudoLabels, true: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
  """Counts the drawn texts, and how many of their labels are right.

  Args:
    pseudo: the pseudo-labels of n texts.
    true: i64 [n], true labels; -1 if unknown. Texts without one count for no share.
    names: class names.

  Returns:
    `drawn`, which has for each class `texts`, `labels` (texts with their copies) and
    `purity`, the share of right labels; `purity` over all classes; and `pool_purity`,
    the purity if each text were drawn once. Unknown shares are None.
  """

  def share(weight):
    known = weight * (true >= 0)
    right = known * (true == pseudo.label)
    return float(right.sum() / known.sum()) if known.sum() else None

  drawn = {}
  for c, name in enumerate(names):
    copies = pseudo.copies * (pseudo.label == c)
    drawn[name] = {
      "texts": int((copies > 0).sum()),
      "labels": int(copies.sum()),
      "purity": share(copies),
    }
  return {
    "drawn": drawn,
    "purity": share(pseudo.copies),
    "pool_purity": share(np.ones(len(true), np.int64)),
  }


def describe(quality: Mapping[str, Any]) -> str:
  """The result of `quality` in one line."""
  classes = []
  for name, drawn in quality["drawn"].items():
    copies = drawn["labels"] - drawn["texts"]
    purity = "" if drawn["purity"] is None else f", {drawn['purity']:.1%} right"
    more = f" and {copies} copies" if copies else ""
    classes.append(f"{drawn['texts']} texts{more} as {name}{purity}")
  line = "; ".join(classes)
  if quality["pool_purity"] is not None:
    line += f" (of all labels in the pool, {quality['pool_purity']:.1%} are right)"
  return line


def table(results: Sequence[Mapping[str, Any]]) -> list[str]:
  """Lines with the labels, their purity and the F1 of each generation.

  Args:
    results: the entries of `generations` in self_training.json.
  """
  rows = [("generation", "labels drawn", "right", "validation f1", "test f1")]
  for result in results:
    drawn = sum(of["labels"] for of in result.get("drawn", {}).values())
    purity = result.get("purity")
    f1 = (result[split]["f1"] for split in ("validation", "test"))
    rows.append(
      (
        str(result["generation"]),
        str(drawn) if drawn else "-",
        "-" if purity is None else f"{purity:.1%}",
        *("-" if value is None else f"{value:.3f}" for value in f1),
      )
    )
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return [
    "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    for row in rows
  ]
