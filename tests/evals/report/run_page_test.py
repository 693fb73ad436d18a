"""The report of one run: its content, and that texts never become markup."""

import pytest

from ssljax.errors import UserError
from ssljax.evals import filtering, runs
from ssljax.evals.report.run_page import render_run
from tests.evals.report.page_checks import check_page
from tests.evals.run_folders import MARKUP, change_result, make_run


@pytest.mark.slow
def test_the_report_is_complete_and_escapes_texts(tmp_path):
  run = runs.read_run(make_run(tmp_path / "run"))
  content = render_run(run)
  page = check_page(content)
  for text in (
    *("Thresholds", "All metrics", "Calibration", "Error rates by slice"),
    *("Most confident errors", "Training", "Config", "Balanced accuracy", "harmful"),
    *(
      "fpr=1%",
      "at most 1% of harmless texts",
      "needs at least 299 harmless",
      "best_f1",
    ),
    *(MARKUP, "</td><b>bold</b>", "3 of 80"),
  ):
    assert text in page.text
  assert content.count("<svg") == 9
  assert "currentColor" in content
  assert "#010203" not in content
  f1, (low, high) = run.result["test"]["f1"], run.result["test"]["f1_interval"]
  assert f"{f1:.3f}" in page.text
  assert f"[{low:.3f}, {high:.3f}]" in page.text
  # The hash belongs to the last step, not to the chosen one.
  assert (run.result["step"], run.result["steps"]) == (20, 30)
  assert "SHA-256 of parameters after step 30" in page.text
  assert render_run(run) == content  # equal runs give equal bytes


@pytest.mark.slow
def test_the_report_says_what_the_filter_did(tmp_path):
  workdir = make_run(tmp_path / "run")
  assert "pseudo-labels were used" not in render_run(runs.read_run(workdir))
  used = {"share": 0.9712, "accuracy": 0.75, "warning": "a filter < 1"}
  change_result(workdir, pseudo_labels=used)
  text = check_page(render_run(runs.read_run(workdir))).text
  text = " ".join(text.split())
  assert "97.1% of the pseudo-labels were used; 75.0% of these are right." in text
  assert "Warning: a filter < 1." in text
  change_result(workdir, pseudo_labels={**used, "accuracy": None, "warning": None})
  text = " ".join(check_page(render_run(runs.read_run(workdir))).text.split())
  assert "97.1% of the pseudo-labels were used. " in text
  assert "Warning: a filter" not in text


def test_a_method_that_did_nothing_is_named_at_the_top(tmp_path):
  workdir = make_run(tmp_path / "run")
  assert "did nothing" not in render_run(runs.read_run(workdir))
  used = {"share": 0.0, "accuracy": None, "warning": f"{filtering.NOTHING}; check it"}
  change_result(workdir, pseudo_labels=used)
  text = check_page(render_run(runs.read_run(workdir))).text
  top = " ".join(text.partition("Thresholds")[0].split())
  assert "Warning: the method did nothing, because no pseudo-label counted" in top


@pytest.mark.slow
@pytest.mark.parametrize(
  "options",
  [
    {"names": ("a", "b", "c")},
    {"names": ("$\\bad{$", "b")},
    {"one_class": True},
    {"skill": 50.0},
  ],
)
def test_runs_that_lack_some_metrics_have_a_report(tmp_path, options):
  run = runs.read_run(make_run(tmp_path / "run", **options))
  page = check_page(render_run(run))
  two_classes = len(run.labels) == 2
  assert ("A threshold is promised if" in page.text) == two_classes
  by_wilson = "accuracy, precision, recall, the\nfalse-positive rate and slices"
  assert (by_wilson in page.text) == two_classes
  if options.get("one_class"):
    assert "all labels belong to one class" in page.text
    assert run.result["test"]["auroc"] is None
    assert run.result["undefined"]["temperature"] == "all labels belong to one class"
    assert "belong to one class, so there is no threshold" in page.text


def test_unreadable_predictions_are_named(tmp_path):
  workdir = make_run(tmp_path / "run")
  (workdir / "predictions" / "test.parquet").write_bytes(b"PAR1")
  with pytest.raises(UserError, match=r"test\.parquet: cannot be read"):
    render_run(runs.read_run(workdir))
