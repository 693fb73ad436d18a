"""Renders the model card of an exported folder."""

from pathlib import Path

from ssljax.evals.report.html import METRIC_NAMES, render
from ssljax.evals.runs import Run
from ssljax.evals.thresholds import describe_target


def render_model_card(run: Run, head: str) -> str:
  """The model card of an exported run, Markdown.

  Args:
    run: a finished run.
    head: `hf` or `mlp`, the exported head.
  """
  config, result = run.config, run.result
  test, labels = result["test"], result["labels"]
  pairs = any(response is not None for response in run.predictions().response)
  local = Path(config["encoder"]).expanduser().exists()  # means nothing to others
  data = Path(config["data"]).name
  return render(
    "model_card.md",
    title=f"{result['method']} on {data}",
    head=head,
    encoder=Path(config["encoder"]).name if local else config["encoder"],
    local=local,
    labels=run.labels,
    method=result["method"],
    budget=f"{labels} labelled texts" if labels else "all labelled texts",
    data=data,
    subject="a response, given its prompt," if pairs else "a text",
    metrics=[
      (name, test[key], test.get(f"{key}_interval"))
      for key, name in METRIC_NAMES.items()
    ],
    thresholds=[
      {"name": target, "description": describe_target(target), **values}
      for target, values in result["thresholds"].items()
    ],
    temperature=result["temperature"],
    temperature_reason=result["undefined"].get("temperature"),
    ece_before=result["calibration"]["before"]["ece"],
    ece_after=result["calibration"]["after"]["ece"],
    max_length=config["max_length"],
  )
