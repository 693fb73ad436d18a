"""Runs against each other: groups, paired differences, ranks."""

import itertools
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from ssljax.errors import UserError
from ssljax.evals import bootstrap, comparison, runs
from ssljax.evals.report import page
from tests.evals import folders


def test_data_sets_go_by_the_last_part_of_their_path_where_it_is_one_of_a_kind():
  found = comparison.short(["/a/one", "/b/two", "/c/two", "pyrit", "/a/one"])
  assert found == {p: p for p in ("/b/two", "/c/two", "pyrit")} | {"/a/one": "one"}


def test_runs_that_differ_in_their_seed_alone_are_one_group(tmp_path):
  for method, cutoff, seed in (
    *(("fixmatch", 0.9, 0), ("fixmatch", 0.9, 1), ("fixmatch", 0.8, 0)),
    *(("supervised", None, 0), ("supervised", None, 1)),
  ):
    more = {} if cutoff is None else {"threshold": cutoff}
    folders.run(tmp_path / f"{method}{cutoff}{seed}", method, seed, **more)
  found = comparison.groups(runs.find([str(tmp_path)]))
  assert {(g.name, len(g.runs)) for g in found} == {
    ("fixmatch method.threshold=0.9", 2),
    ("fixmatch method.threshold=0.8", 1),
    ("supervised", 2),
  }
  assert found[0].name == "supervised"  # what others are held against comes first
  again = [runs.read(tmp_path / "supervisedNone0")] * 2
  with pytest.raises(UserError, match="are the same run"):
    comparison.groups(again)


def f1(said, true):
  hits = np.sum((said == 1) & (true == 1))
  return 2 * hits / (np.sum(said == 1) + np.sum(true == 1))


def test_paired_differences_equal_loops_over_resamples(tmp_path):
  for method, skill in (("supervised", 1.0), ("fixmatch", 2.0)):
    for seed in range(2):
      folders.run(tmp_path / f"{method}{seed}", method, seed, skill=skill)
  some = comparison.groups(runs.find([str(tmp_path)]))
  (found,) = comparison.paired(some)
  assert (found.one, found.other) == ("fixmatch", "supervised")
  means = [np.mean([r.result["test"]["f1"] for r in g.runs]) for g in some]
  assert found.value == pytest.approx(means[1] - means[0])
  gaps = []
  said = [[runs.predictions(run) for run in group.runs] for group in some]
  (counts,) = bootstrap.resamples(80)
  for weight in counts.astype(int):
    rows = np.repeat(np.arange(80), weight)
    each = [
      np.mean([f1(p.logits[rows].argmax(-1), p.label[rows]) for p in predictions])
      for predictions in said
    ]
    gaps.append(each[1] - each[0])
  drawn = comparison.gaps(some, "f1")
  np.testing.assert_allclose(drawn[1] - drawn[0], gaps, atol=1e-12)
  assert found.interval == pytest.approx(np.quantile(gaps, [0.025, 0.975]), abs=1e-9)
  beside = min(sum(gap <= 0 for gap in gaps), sum(gap >= 0 for gap in gaps))
  assert 1 < beside < 300  # neither out of all doubt nor a coin
  assert found.p_value == pytest.approx(2 * beside / 1000)


def test_a_method_against_itself_is_no_difference(tmp_path):
  for method in ("supervised", "fixmatch"):
    folders.run(tmp_path / method, method)
  some = comparison.groups(runs.find([str(tmp_path)]))
  same = [some[0], some[1]._replace(runs=some[0].runs)]
  (found,) = comparison.paired(same)
  assert (found.value, found.interval, found.p_value) == (0.0, [0.0, 0.0], 1.0)


def test_other_test_texts_cannot_be_compared(tmp_path):
  folders.run(tmp_path / "a", "supervised", n=80)
  folders.run(tmp_path / "b", "fixmatch", n=81)
  folders.run(tmp_path / "c", "multimatch", n=80)
  path = tmp_path / "c" / "predictions" / "test.parquet"
  table = pq.read_table(path)  # the same labels, of texts with other names
  names = pa.array([f"other{i}" for i in range(80)], pa.large_string())
  pq.write_table(table.set_column(0, "id", names), path)
  some = comparison.groups(runs.find([str(tmp_path)]))
  for other in some[1:]:
    with pytest.raises(comparison.OtherTexts, match="other test texts"):
      comparison.paired([some[0], other])
  # The page has all but the differences.
  page_ = page.of_comparison(runs.find([str(tmp_path)]))
  assert "have other test texts" in page_
  assert "Differences in f1" not in page_


def test_ranks_and_friedman(tmp_path):
  skills = {"supervised": 0.5, "fixmatch": 1.5, "multimatch": 3.0}
  for data in "abcd":
    for method, skill in skills.items():
      folders.run(tmp_path / f"{data}{method}", method, 0, data, skill=skill)
  folders.run(tmp_path / "alone", "uda", 0, "a")
  folders.run(tmp_path / "bound", "supervised", 0, "a", labels=0, skill=4.0)
  (found,) = comparison.ranks(comparison.groups(runs.find([str(tmp_path)])))
  assert (found.labels, found.data) == (200, list("abcd"))
  assert set(found.methods) == set(skills)  # not what ran on one data set only
  by_name = dict(zip(found.methods, found.rank, strict=True))
  assert by_name["multimatch"] < by_name["supervised"]
  assert found.p_value == pytest.approx(stats.friedmanchisquare(*found.value).pvalue)
  two = [g for g in comparison.groups(runs.find([str(tmp_path)])) if g.name != "uda"]
  two = [g for g in two if g.labels]
  (few,) = comparison.ranks([g for g in two if g.name != "fixmatch"])
  assert few.p_value is None
  assert "three methods" in few.why
  assert comparison.ranks([g for g in two if g.data == "a"]) == []
  # Budgets of one data set are not data sets.
  more = [g._replace(labels=50) for g in two if g.data == "a"]
  assert comparison.ranks([g for g in two if g.data == "a"] + more) == []
  own = {g.data: g for g in two if g.name == "uda" or g.name == "fixmatch"}
  alike = [
    own[data]._replace(name=name) for name in ("x", "y", "z") for data in ("b", "c")
  ]
  (same,) = comparison.ranks(alike)
  assert same.p_value is None
  assert "alike" in same.why


def test_what_else_sets_methods_apart_is_told(tmp_path):
  for method, longest in (("supervised", 64), ("fixmatch", 128)):
    workdir = folders.run(tmp_path / method, method, threshold=0.9)
    folders.changed(workdir, max_length=longest)
  found = runs.find([str(tmp_path)])
  some = comparison.groups(found)
  assert [group.name for group in some] == ["supervised", "fixmatch"]
  wanted = {"max_length": {"supervised": "64", "fixmatch": "128"}}
  assert comparison.differing(some) == wanted
  assert "max_length" in page.of_comparison(found)
  assert comparison.differing(some[:1]) == {}


METHODS = ("supervised", "fixmatch", "multimatch")


def test_what_goes_with_the_data_set_is_no_other_method(tmp_path):
  kinds = {"harm": "balanced", "tox": "stratified"}
  for (data, kind), method, seed in itertools.product(kinds.items(), METHODS, (0, 1)):
    cutoff = {"threshold": 0.9 if data == "harm" else 0.8}
    cutoff = cutoff if method == "fixmatch" else {}
    workdir = folders.run(
      tmp_path / f"{data}-{method}-{seed}", method, seed, data, **cutoff
    )
    folders.changed(workdir, balance=kind)
  found = runs.find([str(tmp_path)])
  some = comparison.groups(found)
  assert sorted((g.name, g.data, len(g.runs)) for g in some) == sorted(
    (method, data, 2) for method in METHODS for data in kinds
  )
  (ranks,) = comparison.ranks(some)
  assert (set(ranks.methods), ranks.data) == (set(METHODS), ["harm", "tox"])
  assert comparison.unranked(some) == []
  # It is told, in rows of the methods that share it.
  told = {one.option: one for one in comparison.moving(some)}
  assert list(told) == ["balance", "method.threshold"]
  assert set(told["balance"].methods) == set(METHODS)
  wanted = {("harm", 200): "balanced", ("tox", 200): "stratified"}
  assert told["balance"].values == wanted
  assert told["method.threshold"].methods == ["fixmatch"]
  content = page.of_comparison(found)
  assert "Over data sets, 200 labels" in content
  assert "<td>balanced</td><td>stratified</td>" in content
  assert "No ranks" not in content


def test_what_goes_with_the_budget_is_no_other_method(tmp_path):
  for labels, steps in ((50, 100), (200, 300), (500, 600)):
    workdir = folders.run(tmp_path / str(labels), labels=labels)
    folders.changed(workdir, steps=steps)
  found = runs.find([str(tmp_path)])
  some = comparison.groups(found)
  assert {group.name for group in some} == {"fixmatch"}
  curves, why = page._budgets(some, "f1")
  assert (len(curves), why) == (1, [])
  (told,) = comparison.moving(some)
  assert (told.option, told.methods) == ("steps", ["fixmatch"])
  assert [told.values["data", n] for n in (50, 200, 500)] == ["100", "300", "600"]
  assert "What goes with the data set or the labels" in page.of_comparison(found)


def test_a_method_has_one_name_on_all_data_sets(tmp_path):
  for data, cutoff in (("one", 0.9), ("one", 0.8), ("two", 0.8)):
    folders.run(tmp_path / f"{data}{cutoff}", data=data, threshold=cutoff)
  some = comparison.groups(runs.find([str(tmp_path)]))
  assert {(group.name, group.data) for group in some} == {
    ("fixmatch method.threshold=0.9", "one"),
    ("fixmatch method.threshold=0.8", "one"),
    ("fixmatch method.threshold=0.8", "two"),
  }
  assert comparison.moving(some) == []


def test_why_there_are_no_ranks_and_no_curves_is_told(tmp_path):
  folders.run(tmp_path / "a", "supervised", data="one")
  folders.run(tmp_path / "b", "fixmatch", data="one")
  assert comparison.unranked(comparison.groups(runs.find([str(tmp_path)]))) == []
  folders.run(tmp_path / "c", "fixmatch", data="two", labels=50)
  content = page.of_comparison(runs.find([str(tmp_path)]))
  assert "no two of them were run with the same budget" in content
  assert "No curve" not in content
  folders.run(tmp_path / "d", "fixmatch", data="two")
  folders.run(tmp_path / "e", "uda", data="one", labels=50)
  content = page.of_comparison(runs.find([str(tmp_path)]))
  assert "each of one, two, and there is one, fixmatch." in content
  assert "each of two, one, and there is none." in content
  assert "No curve over labels for one: no method has f1 with two" in content
  assert "No curve over labels for two" not in content
  # Ranks that leave a method out say so.
  folders.run(tmp_path / "f", "supervised", data="two")
  folders.run(tmp_path / "g", "uda", data="one")
  content = page.of_comparison(runs.find([str(tmp_path)]))
  assert "not there on each of them: uda." in content


def test_one_data_set_of_several_paths_is_one(tmp_path):
  for method in METHODS:
    workdir = folders.run(tmp_path / method, method, data="/data/one")
    more = tmp_path / f"{method}-1"
    shutil.copytree(workdir, more)
    folders.changed(more, data="../link/to/some/where", seed=1)
  found = runs.find([str(tmp_path)])
  for given in (found, found[::-1]):
    some = comparison.groups(given)
    assert {(group.data, len(group.runs)) for group in some} == {("one", 2)}
    assert comparison.ranks(some) == comparison.unranked(some) == []
  assert "No ranks" not in page.of_comparison(found)
  # The same ids and labels of other texts, such as a translation, are another.
  workdir = folders.changed(tmp_path / "fixmatch-1", data="/data/une")
  path = workdir / "predictions" / "test.parquet"
  table = pq.read_table(path)
  at = table.column_names.index("text")
  texts = pa.array(["autre"] * 80, pa.large_string())
  pq.write_table(table.set_column(at, "text", texts), path)
  some = comparison.groups(runs.find([str(tmp_path)]))
  assert {group.data for group in some} == {"one", "une"}


def test_seeds_that_split_one_file_anew_are_of_one_data_set(tmp_path):
  for seed in range(3):
    workdir = folders.run(tmp_path / str(seed), seed=seed, data=f"split{seed}")
    folders.changed(workdir, data="/data/one.jsonl")
  # Another spelling joins them by the split that it shares with one of them.
  workdir = folders.run(tmp_path / "more", "uda", seed=1, data="split1")
  folders.changed(workdir, data="../one.jsonl")
  some = comparison.groups(runs.find([str(tmp_path)]))
  assert [(g.name, g.data, len(g.runs)) for g in some] == [
    ("fixmatch", "one.jsonl", 3),
    ("uda", "one.jsonl", 1),
  ]


def test_mean_and_spread():
  assert comparison.mean_and_spread([]) == (None, None)
  assert comparison.mean_and_spread([0.5]) == (0.5, None)
  assert comparison.mean_and_spread([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))


def test_a_run_of_before_there_were_wrappers_is_no_other_method(tmp_path):
  for seed in range(2):
    place = folders.run(tmp_path / str(seed), seed=seed)
    if seed:
      folders.changed(place, wrapper={"name": ""})
  (group,) = comparison.groups(runs.find([str(tmp_path)]))
  assert (group.name, len(group.runs)) == ("fixmatch", 2)


def test_a_wrapper_is_part_of_the_method_and_no_difference_beside_it(tmp_path):
  folders.run(tmp_path / "plain")
  place = folders.run(tmp_path / "abc")
  folders.changed(place, wrapper={"name": "abc", "scale": 1.0})
  result = json.loads((place / "result.json").read_text())
  (place / "result.json").write_text(
    json.dumps(result | {"method": "abc over fixmatch"})
  )
  found = comparison.groups(runs.find([str(tmp_path)]))
  assert {group.name for group in found} == {"fixmatch", "abc over fixmatch"}
  assert comparison.differing(found) == {}


def test_where_resamples_lack_a_metric_there_is_no_p_value(tmp_path):
  for method in ("supervised", "fixmatch"):
    folders.run(tmp_path / method, method, n=4)  # often of one class
  (one,) = comparison.paired(comparison.groups(runs.find([str(tmp_path)])), "auroc")
  assert (one.interval, one.p_value) == (None, None)
