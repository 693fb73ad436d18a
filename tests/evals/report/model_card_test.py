"""The model card: what the reader of an exported folder needs to know."""

import pytest

from ssljax.evals import filtering, runs
from ssljax.evals.report.model_card import render_model_card
from tests.evals.run_folders import change_config, change_result, make_run


def front_matter(text):
  _, head, _ = text.split("---\n", 2)
  return dict(line.split(": ", 1) for line in head.splitlines())


@pytest.mark.parametrize("names", [("fine", "harmful"), ("a", "b", "c")])
@pytest.mark.parametrize("head", ["hf", "mlp"])
def test_the_card_has_data_budget_method_metrics_and_limits(tmp_path, names, head):
  run = runs.read_run(make_run(tmp_path / "run", names=names))
  card, test = render_model_card(run, head), run.result["test"]
  low, high = test["f1_interval"]
  for text in (
    *("200 labelled texts", "`data`", "`fixmatch`", "`enc`", *names),
    f"| F1 | {test['f1']:.3f} | [{low:.3f}, {high:.3f}] |",
    "The softmax of the logits is the calibrated score",
    f"{run.result['calibration']['after']['ece']:.3f}",
    *("with more than 64 tokens", "## Limits", "## Licence"),
  ):
    assert text in card
  assert front_matter(card)["base_model"] == "enc"
  library = {"hf": "transformers", "mlp": "sentence-transformers"}[head]
  assert front_matter(card)["library_name"] == library
  loader = {"hf": "AutoModelForSequenceClassification", "mlp": "SentenceTransformer("}
  assert loader[head] in card
  if len(names) == 2:
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    for name, values in run.result["thresholds"].items():
      (row,) = (row for row in rows if row.startswith(f"| {name} |"))
      assert f"| {values['threshold']:.4f} |" in row
    assert "refer to the class `harmful`" in card
  else:
    assert "Thresholds" not in card.split("## Limits")[0]
    assert "means over the classes" in card


def test_the_card_does_not_reveal_a_local_path(tmp_path):
  encoder = tmp_path / "secret" / "my-encoder"
  encoder.mkdir(parents=True)
  workdir = change_config(make_run(tmp_path / "run"), encoder=str(encoder))
  card = render_model_card(runs.read_run(workdir), "mlp")
  assert "secret" not in card
  assert "`my-encoder`" in card
  assert "base_model" not in front_matter(card)


def test_the_card_says_that_the_method_did_nothing(tmp_path):
  workdir = make_run(tmp_path / "run")
  assert "did nothing" not in render_model_card(runs.read_run(workdir), "mlp")
  lines = [{"step": t, "mask_rate": 0.0} for t in range(1, 11)]
  change_result(workdir, pseudo_labels=filtering.summary(lines, True))
  card = render_model_card(runs.read_run(workdir), "mlp")
  assert "**Warning**: the method did nothing" in card
