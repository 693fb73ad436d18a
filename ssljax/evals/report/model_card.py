"""Renders the model card of an exported folder."""

from pathlib import Path

from ssljax.evals.report.html import METRIC_NAMES, render
from ssljax.evals.runs import Run


def render_model_card(run: Run, head: str) -> str:
  """The model card of an exported run, as Markdown.

  Args:
    run: a finished run.
    head: `hf` or `mlp`, the exported head.
  """
  encoder = run.config["encoder"]
  local = Path(encoder).expanduser().exists()  # a local path means nothing to others
  return render(
    "model_card.md",
    head=head,
    encoder=Path(encoder).name if local else encoder,
    local=local,
    labels=run.labels,
    data=Path(run.config["data"]).name,
    pairs=any(response is not None for response in run.predictions().response),
    result=run.result,
    metric_names=METRIC_NAMES,
    max_length=run.config["max_length"],
  )
