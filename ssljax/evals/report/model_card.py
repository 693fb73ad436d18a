"""The model card of an exported folder."""

from pathlib import Path

from ssljax.evals import runs
from ssljax.evals.report.html import render
from ssljax.evals.report.page import METRICS
from ssljax.evals.runs import Run


def card(run: Run, head: str) -> str:
  """The model card of an exported folder, Markdown."""
  test, config = run.result["test"], run.config
  labels = run.result["labels"]
  pairs = any(r is not None for r in runs.predictions(run).response)
  local = Path(config["encoder"]).expanduser().exists()  # a path is nobody else's name
  use = (
    "`transformers.AutoModelForSequenceClassification.from_pretrained` reads the folder"
    " as it is; it gives logits."
    if head == "hf"
    else "`sentence_transformers.SentenceTransformer` reads the folder as it is; what"
    " it gives as an embedding are the logits."
  )
  return render(
    "card.md",
    title=f"{run.result['method']} on {Path(config['data']).name}",
    library="transformers" if head == "hf" else "sentence-transformers",
    base=Path(config["encoder"]).name if local else config["encoder"],
    hub=not local,
    labels=run.labels,
    method=run.result["method"],
    budget=f"{labels} labelled texts" if labels else "all labels",
    data=Path(config["data"]).name,
    what="a response, given its prompt," if pairs else "a text",
    metrics=[(n, test[n], test.get(f"{n}_interval")) for n in METRICS],
    thresholds=run.result["thresholds"],
    temperature=run.result["temperature"],
    temperature_why=run.result["undefined"].get("temperature"),
    before=run.result["calibration"]["before"]["ece"],
    after=run.result["calibration"]["after"]["ece"],
    longest=config["max_length"],
    use=use,
  )
