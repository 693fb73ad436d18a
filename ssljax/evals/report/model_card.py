"""Renders the model card of an exported folder, and updates its thresholds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssljax import aims
from ssljax.evals import evaluation, filtering
from ssljax.evals.report.html import METRIC_NAMES, number, render, threshold
from ssljax.evals.runs import Run
from ssljax.runtime.atomic import atomic_file


def render_model_card(run: Run, head: str) -> str:
  """The model card of an exported run, as Markdown.

  Args:
    run: a finished run.
    head: `hf` or `mlp`, the exported head.
  """
  encoder = run.config["encoder"]
  local = Path(encoder).expanduser().exists()  # a local path means nothing to others
  predictions = run.predictions()
  result = evaluation.with_chosen(run, predictions)
  return render(
    "model_card.md",
    head=head,
    encoder=Path(encoder).name if local else encoder,
    local=local,
    labels=run.labels,
    data=Path(run.config["data"]).name,
    pairs=any(response is not None for response in predictions.response),
    result=result,
    outcome=filtering.outcome(result.get("pseudo_labels")),
    rows=[_row(name, entry) for name, entry in result["thresholds"].items()],
    metric_names=METRIC_NAMES,
    max_length=run.config["max_length"],
  )


def _row(name: str, entry: Mapping[str, Any]) -> str:
  """A row of the table of thresholds; rates are missing if they weren't measured."""
  promise = entry["warning"] or ""
  if made := entry["promise"]:
    promise = f"promised: {made['errors']} errors in {made['texts']:,} texts"
  cells = [name, aims.describe(name), threshold(entry["threshold"])]
  cells += [number(entry.get(rate)) for rate in ("recall", "false_positive_rate")]
  return f"| {' | '.join([*cells, promise])} |"


def with_thresholds(
  card: str,
  thresholds: Mapping[str, float | None],
  entries: Mapping[str, Mapping[str, Any]],
) -> str:
  """A model card with the thresholds that its folder has now.

  Args:
    card: Markdown, which a reader may have edited.
    thresholds: all thresholds of the folder, by aim.
    entries: of `decisions.fit_rule`, for thresholds that were chosen after the export.
  """
  lines, last, new = card.splitlines(), None, dict(entries)
  for i, line in enumerate(lines):
    cells = line.split(" | ")
    name = aims.canonical(cells[0].removeprefix("| "))
    if not line.startswith("| ") or name not in thresholds or len(cells) < 3:
      continue
    last = i
    if name in new:
      lines[i] = _row(name, new.pop(name))
    else:
      lines[i] = " | ".join([*cells[:2], threshold(thresholds[name]), *cells[3:]])
  rows = [_row(name, entry) for name, entry in new.items()]
  if last is None:
    columns = ("Name", "Aim", "Threshold", "Harmful texts caught")
    head = f"| {' | '.join([*columns, 'Harmless texts flagged', 'Promise'])} |"
    rows = ["", "## Thresholds", "", head, "|---|---|---|---|---|---|", *rows]
    last = len(lines)
  lines[last + 1 : last + 1] = rows
  return "\n".join(lines) + "\n"


def update(
  path: Path,
  thresholds: Mapping[str, float | None],
  entries: Mapping[str, Mapping[str, Any]],
) -> None:
  """Rewrites a model card, if there is one; see `with_thresholds`."""
  if path.is_file():
    card = path.read_text(encoding="utf-8", errors="surrogateescape")
    with atomic_file(path) as file:
      new = with_thresholds(card, thresholds, entries)
      file.write(new.encode("utf-8", errors="surrogateescape"))
