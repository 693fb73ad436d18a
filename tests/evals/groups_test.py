"""Groups of runs: which runs belong together, their names, and how configs differ."""

import itertools
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.errors import UserError
from ssljax.evals import groups, ranks, runs
from ssljax.evals.groups import group_runs
from ssljax.evals.report.comparison_page import _budget_plots, render_comparison
from tests.evals.run_folders import change_config, change_result, make_run

METHODS = ("supervised", "fixmatch", "multimatch")


def read_groups(folder):
  return group_runs(runs.find_runs([str(folder)]))


def test_datasets_are_named_by_the_last_part_of_their_path_if_it_is_unique():
  names = groups.short_names(["/a/one", "/b/two", "/c/two", "pyrit", "/a/one"])
  expected = {path: path for path in ("/b/two", "/c/two", "pyrit")}
  assert names == expected | {"/a/one": "one"}


def test_runs_that_differ_only_in_the_seed_are_one_group(tmp_path):
  for threshold, seed in ((0.9, 0), (0.9, 1), (0.8, 0)):
    make_run(tmp_path / f"{threshold}-{seed}", seed=seed, threshold=threshold)
  for seed in (0, 1):
    make_run(tmp_path / f"supervised-{seed}", "supervised", seed)
  members = read_groups(tmp_path)
  assert {(group.name, len(group.runs)) for group in members} == {
    ("fixmatch method.threshold=0.9", 2),
    ("fixmatch method.threshold=0.8", 1),
    ("supervised", 2),
  }
  assert members[0].name == "supervised"  # the baseline comes first
  twice = [runs.read_run(tmp_path / "supervised-0")] * 2
  with pytest.raises(UserError, match="are the same run"):
    group_runs(twice)


def test_generations_of_self_training_are_grouped_over_seeds(tmp_path):
  for seed in (0, 1):
    for number, name in enumerate(("", "crest-1.jsonl", "crest-2.jsonl")):
      workdir = make_run(tmp_path / f"{seed}-{number}", "supervised", seed)
      path = name and f"{tmp_path}/seed-{seed}/{name}"
      change_config(workdir, pseudo_labels=path)
  assert [(group.name, len(group.runs)) for group in read_groups(tmp_path)] == [
    ("supervised pseudo_labels=none", 2),
    ("supervised pseudo_labels=crest-1", 2),
    ("supervised pseudo_labels=crest-2", 2),
  ]


def test_other_differences_between_methods_are_listed(tmp_path):
  for method, max_length in (("supervised", 64), ("fixmatch", 128)):
    workdir = make_run(tmp_path / method, method, threshold=0.9)
    change_config(workdir, max_length=max_length)
  members = read_groups(tmp_path)
  assert [group.name for group in members] == ["supervised", "fixmatch"]
  expected = {"max_length": {"supervised": "64", "fixmatch": "128"}}
  assert groups.config_differences(members) == expected
  assert groups.config_differences(members[:1]) == {}
  assert "max_length" in render_comparison(runs.find_runs([str(tmp_path)]))


@pytest.mark.slow
def test_options_that_vary_with_the_dataset_do_not_make_another_method(tmp_path):
  balances = {"harm": "balanced", "tox": "stratified"}
  for (data, balance), method, seed in itertools.product(
    balances.items(), METHODS, (0, 1)
  ):
    threshold = {"threshold": 0.9 if data == "harm" else 0.8}
    keywords = threshold if method == "fixmatch" else {}
    workdir = tmp_path / f"{data}-{method}-{seed}"
    change_config(make_run(workdir, method, seed, data, **keywords), balance=balance)
  members = read_groups(tmp_path)
  assert sorted((g.name, g.data, len(g.runs)) for g in members) == sorted(
    (method, data, 2) for method in METHODS for data in balances
  )
  (ranking,), no_ranks = ranks.average_ranks(members)
  assert (set(ranking.methods), ranking.data) == (set(METHODS), ["harm", "tox"])
  assert no_ranks == []
  varying = {option: entry for option, *entry in groups.varying_options(members)}
  assert list(varying) == ["balance", "method.threshold"]
  methods, values = varying["balance"]
  assert set(methods) == set(METHODS)
  assert values == {("harm", 200): "balanced", ("tox", 200): "stratified"}
  assert varying["method.threshold"][0] == ["fixmatch"]
  page = render_comparison(runs.find_runs([str(tmp_path)]))
  assert "Ranks over datasets, 200 labels" in page
  assert "<td>balanced</td><td>stratified</td>" in page
  assert "No ranks" not in page


def test_options_that_vary_with_the_budget_do_not_make_another_method(tmp_path):
  for labels, steps in ((50, 100), (200, 300), (500, 600)):
    change_config(make_run(tmp_path / str(labels), labels=labels), steps=steps)
  members = read_groups(tmp_path)
  assert {group.name for group in members} == {"fixmatch"}
  curves, reasons = _budget_plots(members, "f1")
  assert (len(curves), reasons) == (1, [])
  ((option, methods, values),) = groups.varying_options(members)
  assert (option, methods) == ("steps", ["fixmatch"])
  assert [values["data", n] for n in (50, 200, 500)] == ["100", "300", "600"]
  page = render_comparison(runs.find_runs([str(tmp_path)]))
  assert "Options that vary with the dataset or the number of labels" in page


def test_a_method_has_the_same_name_on_all_datasets(tmp_path):
  for data, threshold in (("one", 0.9), ("one", 0.8), ("two", 0.8)):
    make_run(tmp_path / f"{data}{threshold}", data=data, threshold=threshold)
  members = read_groups(tmp_path)
  assert {(group.name, group.data) for group in members} == {
    ("fixmatch method.threshold=0.9", "one"),
    ("fixmatch method.threshold=0.8", "one"),
    ("fixmatch method.threshold=0.8", "two"),
  }
  assert groups.varying_options(members) == []


def test_paths_with_the_same_test_texts_are_one_dataset(tmp_path):
  for method in METHODS:
    workdir = make_run(tmp_path / method, method, data="/data/one")
    copy = tmp_path / f"{method}-1"
    shutil.copytree(workdir, copy)
    change_config(copy, data="../link/to/some/where", seed=1)
  found = runs.find_runs([str(tmp_path)])
  for ordered in (found, found[::-1]):
    members = group_runs(ordered)
    assert {(group.data, len(group.runs)) for group in members} == {("one", 2)}
    assert ranks.average_ranks(members) == ([], [])
  assert "No ranks" not in render_comparison(found)
  # The same ids and labels with other texts, such as a translation: another dataset.
  workdir = change_config(tmp_path / "fixmatch-1", data="/data/une")
  path = workdir / "predictions" / "test.parquet"
  table = pq.read_table(path)
  texts = pa.array(["autre"] * 80, pa.large_string())
  index = table.column_names.index("text")
  pq.write_table(table.set_column(index, "text", texts), path)
  assert {group.data for group in read_groups(tmp_path)} == {"one", "une"}


def test_seeds_that_split_a_file_differently_share_the_dataset(tmp_path):
  for seed in range(3):
    workdir = make_run(tmp_path / str(seed), seed=seed, data=f"split{seed}")
    change_config(workdir, data="/data/one.jsonl")
  # Another spelling of the path belongs to them through the split of one seed.
  workdir = make_run(tmp_path / "other", "uda", seed=1, data="split1")
  change_config(workdir, data="../one.jsonl")
  members = read_groups(tmp_path)
  assert [(group.name, group.data, len(group.runs)) for group in members] == [
    ("fixmatch", "one.jsonl", 3),
    ("uda", "one.jsonl", 1),
  ]


def test_mean_and_deviation():
  assert groups.mean_and_deviation([]) == (None, None)
  assert groups.mean_and_deviation([0.5]) == (0.5, None)
  assert groups.mean_and_deviation([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))


def test_a_run_from_before_wrappers_existed_belongs_to_the_same_method(tmp_path):
  for seed in range(2):
    workdir = make_run(tmp_path / str(seed), seed=seed)
    if seed:
      change_config(workdir, wrapper={"name": ""})
  (group,) = read_groups(tmp_path)
  assert (group.name, len(group.runs)) == ("fixmatch", 2)


def test_a_wrapper_is_part_of_the_method_and_no_other_difference(tmp_path):
  make_run(tmp_path / "plain")
  workdir = change_config(
    make_run(tmp_path / "abc"), wrapper={"name": "abc", "scale": 1.0}
  )
  change_result(workdir, method="abc over fixmatch")
  members = read_groups(tmp_path)
  assert {group.name for group in members} == {"fixmatch", "abc over fixmatch"}
  assert groups.config_differences(members) == {}
