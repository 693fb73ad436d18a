"""The model card: what a reader of an exported folder has to know."""

import json

import pytest

from ssljax.evals import runs
from ssljax.evals.report import model_card
from tests.evals import folders


def changed(workdir, **more):
  config = json.loads((workdir / "config.json").read_text())
  (workdir / "config.json").write_text(json.dumps({**config, **more}))
  return runs.read(workdir)


def front(text):
  """The lines between the first two rules, by name."""
  _, head, _ = text.split("---\n", 2)
  return dict(line.split(": ", 1) for line in head.splitlines())


@pytest.mark.parametrize("names", [("fine", "harmful"), ("a", "b", "c")])
@pytest.mark.parametrize("head", ["hf", "mlp"])
def test_the_card_has_data_budget_method_metrics_and_limits(tmp_path, names, head):
  run = runs.read(folders.run(tmp_path / "run", names=names))
  text, test = model_card.card(run, head), run.result["test"]
  low, high = test["f1_interval"]
  for part in (
    *("200 labelled texts", "`data`", "`fixmatch`", "`enc`", *names),
    f"| f1 | {test['f1']:.3f} | [{low:.3f}, {high:.3f}] |",
    f"softmax(logits / {run.result['temperature']:.3f})",
    f"{run.result['calibration']['after']['ece']:.3f}",
    *("up to 64 tokens", "## Limits", "## Licence"),
  ):
    assert part in text
  assert front(text)["base_model"] == "enc"
  library = {"hf": "transformers", "mlp": "sentence-transformers"}[head]
  assert front(text)["library_name"] == library
  if len(names) == 2:
    for name, found in run.result["thresholds"].items():
      assert f"| {name} | {found['threshold']:.4f} |" in text
    assert "are of `harmful`" in text
  else:
    assert "Thresholds" not in text.split("## Limits")[0]
    assert "means over the classes" in text


def test_a_path_of_this_machine_is_not_told(tmp_path):
  encoder = tmp_path / "secret" / "my-encoder"
  encoder.mkdir(parents=True)
  run = changed(folders.run(tmp_path / "run"), encoder=str(encoder))
  text = model_card.card(run, "mlp")
  assert "secret" not in text
  assert "`my-encoder`" in text
  assert "base_model" not in front(text)
