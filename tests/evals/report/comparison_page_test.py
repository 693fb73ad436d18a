"""The report that compares runs: methods, datasets, budgets and their means."""

import json
import re

import numpy as np
import pytest

from ssljax.evals import chosen, decisions, filtering, runs
from ssljax.evals.groups import group_runs
from ssljax.evals.report import comparison_page
from ssljax.evals.report.comparison_page import render_comparison
from tests.evals.report.page_checks import check_page
from tests.evals.run_folders import change_result, make_run


def render(folder):
  return render_comparison(runs.find_runs([str(folder)]))


@pytest.mark.slow
def test_the_page_has_every_method_dataset_and_budget(tmp_path):
  for data in ("one", "two"):
    for method, skill in (("supervised", 1.0), ("fixmatch", 1.5), ("multimatch", 2.0)):
      for seed in range(2):
        workdir = tmp_path / f"{data}-{method}-{seed}"
        make_run(workdir, method, seed, data, skill=skill)
  make_run(tmp_path / "fewer", "supervised", 0, "one", labels=50)
  make_run(tmp_path / "all", "supervised", 0, "one", labels=0, skill=3.0)
  page = check_page(render(tmp_path))
  for text in (
    *("14 runs, 3 methods", "one, 200 labels", "two, 200 labels", "one, 50 labels"),
    *("one, all labels", "±", "Results by number of labels", "supervised, all labels"),
    *("Balanced accuracy", "Ranks over datasets"),
  ):
    assert text in page.text
  results = [
    json.loads((tmp_path / f"two-fixmatch-{seed}" / "result.json").read_text())
    for seed in range(2)
  ]
  for values in (
    [result["calibration"]["before"]["ece"] for result in results],
    [result["calibration"]["after"]["brier"] for result in results],
    [result["temperature"] for result in results],
    [result["thresholds"]["fpr=5%"]["recall"] for result in results],
    [result["thresholds"]["best_f1"]["false_positive_rate"] for result in results],
  ):
    assert f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" in page.text


@pytest.mark.parametrize("first", ["a-two", "a-three"])
def test_datasets_with_two_and_three_classes_share_a_page(tmp_path, first):
  second = {"a-two": "b-three", "a-three": "b-two"}[first]
  for data in (first, second):
    names = ("a", "b", "c") if "three" in data else ("fine", "harmful")
    for method in ("supervised", "fixmatch"):
      make_run(tmp_path / f"{data}-{method}", method, data=data, names=names)
  text = check_page(render(tmp_path)).text
  _, *sections = re.split("[ab]-(?:two|three), 200 labels", text)
  kinds = [data[2:] for data in (first, second)]
  two, three = (sections[kinds.index(kind)] for kind in ("two", "three"))
  assert "AUPRC refer to the harmful\nclass" in two
  assert "Caught, fpr=1%" in two
  assert "All metrics except accuracy are means over the classes" in three
  three = re.split("Options that vary|Runs\n", three)[0]
  assert "harmful" not in three


def test_tables_are_printed_whole(tmp_path):
  for method in ("supervised", "fixmatch"):
    make_run(tmp_path / method, method)
  print_style = render(tmp_path).partition("@media print")[2].partition("</style>")[0]
  assert ".wide { overflow: visible;" in print_style
  assert "@page { size: landscape; }" in print_style


def test_a_target_that_some_run_misses_has_no_mean(tmp_path):
  for seed in range(2):
    workdir = make_run(tmp_path / str(seed), seed=seed)
  result = json.loads((workdir / "result.json").read_text())
  missing = {"threshold": None, "warning": "x", "validation": None}
  change_result(workdir, thresholds={**result["thresholds"], "fpr=5%": missing})
  (group,) = group_runs(runs.find_runs([str(tmp_path)]))
  targets = [*result["thresholds"]]
  i = 2 * targets.index("fpr=5%")
  cells = comparison_page._threshold_cells(group, targets)
  assert cells[i] == cells[i + 1] == (None, None)
  assert all(mean is not None for mean, _ in cells[:i] + cells[i + 2 :])


def test_the_aims_that_all_runs_have_are_compared(tmp_path):
  aims = {"a": ("fpr=2%", "review=5%"), "b": ("review=5%", "recall=95%")}
  for name, kept in aims.items():
    workdir = make_run(tmp_path / name, f"method_{name}")
    entries = json.loads((workdir / "result.json").read_text())["thresholds"]
    change_result(workdir, thresholds=dict.fromkeys(kept, entries["best_f1"]))
  text = words(tmp_path)
  assert "Caught, review=5%" in text
  assert text.count("Caught, ") == 1
  assert f"{entries['best_f1']['recall']:.3f}" in text


def test_a_long_path_in_a_heading_is_wrapped_on_a_phone(tmp_path):
  for k in (1, 2):
    make_run(tmp_path / f"run{k}", data=f"/place{k}/of/the_same_long_name")
  page = render(tmp_path)
  assert "<h2>/place1/of/the_same_long_name, 200 labels</h2>" in page
  assert "h1, h2, p { overflow-wrap: anywhere; }" in page


def words(folder):
  return " ".join(check_page(render(folder)).text.split())


@pytest.mark.parametrize(
  ("skills", "sentence"),
  [
    ((1.0, 3.0), "fixmatch has a clearly higher F1 than supervised."),
    ((3.0, 1.0), "supervised has a clearly higher F1 than fixmatch."),
    ((1.0, 1.1), "The difference in F1 is not clear"),
  ],
)
def test_the_page_says_on_how_many_texts_and_whether_a_difference_is_clear(
  tmp_path, skills, sentence
):
  for method, skill in zip(("supervised", "fixmatch"), skills, strict=True):
    for seed in range(2):
      make_run(tmp_path / f"{method}{seed}", method, seed, skill=skill, n=80)
  text = words(tmp_path)
  assert f"Tested on 80 texts. {sentence}" in text
  assert "the same resamples of the 80 test texts" in text
  clear = re.search(r"Clear\?\s*fixmatch\s*supervised[^a-z]*(yes|no)", text)
  assert clear[1] == ("yes" if "clearly" in sentence else "no")
  assert "only one run" not in text


def test_one_run_of_a_method_is_a_caveat_of_its_differences(tmp_path):
  for method, skill in (("supervised", 1.0), ("fixmatch", 3.0)):
    make_run(tmp_path / method, method, skill=skill)
  assert "Some methods have only one run here" in words(tmp_path)
  assert "only one run" not in words(tmp_path / "fixmatch")  # no difference


def test_several_clear_differences_are_named_together(tmp_path):
  for method, skill in (("supervised", 1.0), ("fixmatch", 1.1), ("multimatch", 4.0)):
    make_run(tmp_path / method, method, skill=skill)
  sentence = "multimatch has a clearly higher F1 than supervised and fixmatch. "
  assert f"{sentence}The other difference is not clear." in words(tmp_path)


def test_runs_tested_on_different_numbers_of_texts_are_all_counted(tmp_path):
  make_run(tmp_path / "a", "supervised", n=80)
  make_run(tmp_path / "b", "fixmatch", n=81)
  assert "Tested on 80 or 81 texts." in words(tmp_path)


def test_the_page_names_methods_that_did_nothing(tmp_path):
  used = {"share": 0.0, "accuracy": None}
  nothing = f"{filtering.NOTHING} (mask_rate 0); check steps and threshold"
  for method in ("supervised", "fixmatch", "multimatch"):
    for seed in range(2):
      workdir = make_run(tmp_path / f"{method}{seed}", method, seed)
      warning = nothing if (method, seed) == ("fixmatch", 1) else None
      if method != "supervised":
        change_result(workdir, pseudo_labels={**used, "warning": warning})
  text = words(tmp_path)
  assert "Warning: fixmatch, 1 of 2 runs: the method did nothing, because" in text
  assert text.count("Warning:") == 1


def test_thresholds_that_were_chosen_after_a_run_are_compared(tmp_path):
  for method in ("supervised", "fixmatch"):
    workdir = make_run(tmp_path / method, method)
  result = json.loads((workdir / "result.json").read_text())
  entry = result["thresholds"]["fpr=5%"]
  own = f"{entry['recall']:.3f}"
  later = {name: entry[name] for name in decisions.KEPT}
  entries = {"fpr=5%": {**later, "threshold": 0.0, "on": "fresh.csv", "data": "f"}}
  assert own in words(tmp_path)
  before = result["temperature"]
  chosen.write(workdir, entries, before, before)
  page = words(tmp_path)
  assert "/fixmatch: some thresholds were chosen after the run, on other texts" in page
  assert own not in page  # at a threshold of 0, the recall is 1
