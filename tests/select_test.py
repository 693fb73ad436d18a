"""`ssljax.select`: what it proposes, and the way of its rows back into a dataset.

A single file, since its tests share a run and its dataset.
"""

import csv
import importlib
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from ssljax.data.prepare import prepare
from ssljax.data.records.read import read_splits
from ssljax.data.split import divide_records
from ssljax.errors import UserError
from ssljax.selection import choose
from ssljax.selection.strategies import STRATEGIES
from tests import old_files, runs

select = importlib.import_module("ssljax.select")

CELLS = [  # each with a word that the tiny model knows
  "=calm+1",
  "+harm",
  "-steal",
  "@help",
  "'=bread",
  "' quoted calm'",
  'he said "hurt", and\nthen: bake',
  "harm\r\nthe second line",
  "kind; a\ttab",
  "calm 日本語の文章、テスト",
  "harm كيف أخبز الخبز؟",
  "steal Как испечь хлеб? 😀",
  "the 1-2",
  "  bake ",
]
BEHAVIOURS = {
  "keeps all cells": lambda cell: cell,
  "removes an apostrophe": lambda cell: cell[1:] if cell[:1] == "'" else cell,
  "writes other line ends": lambda cell: cell.replace("\r\n", "\n"),
}


@pytest.fixture(scope="module")
def place(old_runs, tmp_path_factory):
  """A dataset with an unlabelled pool, and a MultiMatch run that has it as its data."""
  place = tmp_path_factory.mktemp("select")
  rng = np.random.default_rng(0)
  words = {0: ["kind", "calm", "help", "bread"], 1: ["harm", "hurt", "steal"]}

  def text(label):
    return " ".join(rng.choice([*words[label], "a", "the"], 12))

  rows = [{"id": f"r{i}", "text": text(i % 2), "label": i % 2} for i in range(60)]
  rows += [{"id": f"u{i}", "text": text(i % 2), "label": None} for i in range(40)]
  rows += [{"id": f"c{i}", "text": cell, "label": None} for i, cell in enumerate(CELLS)]
  pair = {"text": "the bread", "response": '=harm, \'a\nthe "hurt"', "label": None}
  rows.append({"id": "pair", **pair})
  source = place / "all.jsonl"
  source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  prepare(str(source), str(place / "data"), labels=["fine", "rude"])
  shutil.copytree(old_runs / "finished", place / "run")
  old_files.set_keys(place / "run", data=str(place / "data"))
  return place


def read(path):
  if path.suffix == ".parquet":
    return pq.read_table(path).to_pylist()
  if path.suffix == ".jsonl":
    return [json.loads(line) for line in path.read_text().splitlines()]
  with open(path, newline="", encoding="utf-8-sig") as file:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    return list(csv.DictReader(file, delimiter=delimiter))


def split(folder, name="train"):
  return {row["id"]: row for row in pq.read_table(folder / name).to_pylist()}


def run_select(place, output, data=None, model=None, **options):
  model, data = model or place / "run", data or place / "data"
  return select.select(str(model), str(data), output=str(output), **options)


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_labels_from_a_spreadsheet_reach_their_texts(
  place, tmp_path, suffix, behaviour
):
  """A row that was left empty stays unlabelled; no text, id or split changes."""
  output = tmp_path / f"next{suffix}"
  run_select(place, output, number=200)
  change = BEHAVIOURS[behaviour]
  rows = [{k: change(cell) for k, cell in row.items()} for row in read(output)]
  before = split(place / "data")
  assert all(row["label_name"] == "" for row in rows)
  expected = {}
  for i, row in enumerate(rows):
    row["label_name"] = ["fine", "", "rude", " "][i % 4]
    expected[row["id"].lstrip("'")] = [0, None, 1, None][i % 4]
  assert {"pair", *(f"c{i}" for i in range(len(CELLS)))} <= expected.keys()
  with open(output, "w", newline="", encoding="utf-8") as file:
    delimiter = "\t" if suffix == ".tsv" else ","
    writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
  about = prepare(str(place / "data"), str(tmp_path / "new"), add=[str(output)])
  after = split(tmp_path / "new")
  texts = lambda rows: {i: (row["text"], row["response"]) for i, row in rows.items()}
  assert texts(after) == texts(before)
  for id_, row in after.items():
    label = expected.get(id_, before[id_]["label"])
    assert row["label"] == label, id_
    assert (row["source"] == "select") == (expected.get(id_) is not None)
  for name in ("validation", "test"):
    assert split(tmp_path / "new", name).keys() == split(place / "data", name).keys()
  count = sum(label is not None for label in expected.values())
  assert any(f"{count} texts of train got a label" in note for note in about["notes"])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv", ".tsv"])
def test_a_table_has_the_same_rows_in_every_format(place, tmp_path, suffix):
  paths = tmp_path / "a.jsonl", tmp_path / f"b{suffix}"
  for path in paths:
    run_select(place, path, number=20)
  names = ["id", "label_name", "source", "reason", "predicted"]
  plain = lambda row: [(row[name] or "").lstrip("'") for name in names]
  assert [*map(plain, read(paths[0]))] == [*map(plain, read(paths[1]))]
  assert all(row["source"] == "select" for row in read(paths[1]))
  if suffix == ".parquet":
    assert read(paths[0]) == read(paths[1])


@pytest.mark.slow
def test_labelled_texts_and_those_like_them_are_never_proposed(place, tmp_path):
  """In a pool of the run's own texts, copies and near-copies, two rows are new."""
  data = place / "data"
  known = [*split(data, "validation").values(), *split(data, "test").values()]
  known += [row for row in split(data).values() if row["label"] is not None]
  rows = [
    {"id": f"copy{i}", "text": row["text"].upper()} for i, row in enumerate(known)
  ]
  rows += [{"id": f"near{i}", "text": f"{r['text']}, a"} for i, r in enumerate(known)]
  rows += [{"id": "labelled", "text": "a labelled calm text", "label": "1"}]
  rows += [{"id": "like it", "text": "a labelled calm text."}]
  rows += [{"id": "new", "text": "an entirely new harm, nothing is like it"}]
  rows += [{"id": "same", "text": "An entirely new  harm, nothing is like it"}]
  rows += [{"id": "similar", "text": "an entirely new harm, nothing is like it!!"}]
  rows += [{"id": "other", "text": "another calm thing about the bread"}]
  rows += [{"id": "unknown", "text": "☃ ☃"}, {"id": "empty", "text": " "}]
  pool = tmp_path / "pool.jsonl"
  pool.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  for strategy in STRATEGIES:
    output = tmp_path / f"{strategy}.jsonl"
    notes = run_select(place, output, pool, strategy=strategy)
    assert {row["id"] for row in read(output)} in (
      {"new", "other"},
      {"similar", "other"},
    )
    assert any("near-duplicates" in note for note in notes)
    assert any("have a label already" in note for note in notes)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_seed_decides_and_every_row_has_a_reason(place, tmp_path, strategy):
  for name in ("a", "b"):
    run_select(place, tmp_path / f"{name}.jsonl", strategy=strategy, number=15, seed=3)
  rows = read(tmp_path / "a.jsonl")
  assert rows == read(tmp_path / "b.jsonl")
  assert len(rows) == 15
  words = {"random": "at random", "disagreement": "voters", "diversity": "unlike"}
  assert all(words.get(strategy, "the model is") in row["reason"] for row in rows)
  source = "random" if strategy == "random" else "select"
  assert all(row["source"] == source for row in rows)


@pytest.mark.slow
def test_a_large_pool_has_a_limited_number_of_embeddings(place, tmp_path, monkeypatch):
  sizes = []
  predict = choose.predict

  def spy(classifier, records, rows, embed):
    sizes.append((len(rows), embed))
    return predict(classifier, records, rows, embed)

  monkeypatch.setattr(choose, "predict", spy)
  monkeypatch.setattr(choose, "LIMIT", 20)
  monkeypatch.setattr(choose, "CHUNK", 7)
  rows = {}
  for strategy in ("mixed", "margin", "diversity"):
    output = tmp_path / f"{strategy}.jsonl"
    run_select(place, output, strategy=strategy, number=5)
    rows[strategy] = read(output)
    assert len(rows[strategy]) == 5
  pool = sizes[0][0]
  assert pool > 50
  labelled = sizes[-1][0]
  assert sizes == [
    *((pool, False), (20, True)),  # mixed
    (pool, False),  # margin
    *((20, True), (labelled, True)),  # diversity
  ]


@pytest.mark.slow
def test_an_exported_folder_chooses_what_the_run_chooses(place, old_runs, tmp_path):
  run_select(place, tmp_path / "a.jsonl", number=10)
  options = {"model": old_runs / "export", "against": [str(place / "data")]}
  notes = run_select(place, tmp_path / "b.jsonl", number=10, **options)
  ids = [
    [row["id"] for row in read(tmp_path / name)] for name in ("a.jsonl", "b.jsonl")
  ]
  assert ids[0] == ids[1]
  assert not any("--against" in note for note in notes)
  notes = run_select(place, tmp_path / "c.jsonl", model=old_runs / "export")
  assert any("--against" in note for note in notes)


@pytest.mark.slow
def test_wrong_labels_are_listed_with_their_split(place, old_runs, tmp_path):
  """In the data of the old run, the words give the label away."""
  rows = {}
  wrong = {}
  for name in ("train", "validation", "test"):
    (tmp_path / "data" / name).mkdir(parents=True)
    table = pq.read_table(old_runs / "data" / name)
    rows[name] = table.to_pylist()
    for row in rows[name]:
      row["views"] = []
    wrong[name] = {rows[name][i]["id"] for i in ((3, 8) if name == "train" else ())}
    for row in rows[name]:
      row["label"] = 1 - row["label"] if row["id"] in wrong[name] else row["label"]
    table = table.from_pylist(rows[name], table.schema)
    pq.write_table(table, tmp_path / "data" / name / "part-0.parquet")
  workdir = shutil.copytree(old_runs / "finished", tmp_path / "run")
  old_files.set_keys(workdir, data=str(tmp_path / "data"))
  notes = select.select(str(workdir), doubts=str(tmp_path / "doubts.csv"))
  found = read(tmp_path / "doubts.csv")
  ids = {row["id"].lstrip("'") for row in found if row["split"] == "train"}
  assert wrong["train"] <= ids
  assert len(ids) < 10
  for row in found:
    assert row["label_name"] != row["suggested"]
    assert row["reason"].startswith(f"labelled {row['label_name']}, but ")
  assert not any("changed" in note for note in notes)
  rows["test"][0]["text"] += " more"
  table = table.from_pylist(rows["test"], table.schema)
  pq.write_table(table, tmp_path / "data" / "test" / "part-0.parquet")
  notes = select.select(str(workdir), doubts=str(tmp_path / "again.csv"))
  assert any(note.startswith("test: the texts have changed") for note in notes)


@pytest.mark.slow
def test_texts_that_a_run_held_back_are_doubted_as_well(old_runs, tmp_path):
  workdir = shutil.copytree(old_runs / "finished", tmp_path / "run")
  old_files.set_keys(workdir, data=str(old_runs / "data"), calibration=0.5)
  seed = json.loads((workdir / "config.json").read_text())["seed"]
  validation = read_splits(old_runs / "data", seed).validation
  table = pq.read_table(workdir / "predictions" / "validation.parquet")
  shares = {"validation": 0.5, "calibration": 0.5}
  for name, part in divide_records(validation, shares, seed).items():
    rows = [table["id"].to_pylist().index(id_) for id_ in part.column("id")]
    pq.write_table(table.take(rows), workdir / "predictions" / f"{name}.parquet")
  notes = select.select(str(workdir), doubts=str(tmp_path / "doubts.csv"))
  assert not any("changed" in note for note in notes)
  n = len(validation) // 2
  assert any(f"of {n} in validation" in note for note in notes)
  assert any(f"of {n} in calibration" in note for note in notes)


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"data": ""}, "--data=POOL, --doubts=FILE"),
    ({"strategy": "margn"}, "margin"),
    ({"number": 0}, "--number=0"),
    ({"output": "next.xlsx"}, ".csv, .tsv, .jsonl, .parquet"),
    ({"output": "next.csv.gz"}, ".csv, .tsv"),
    ({"doubts": "doubts.csv"}, "needs the run"),
    ({"data": "nowhere.csv"}, "nowhere.csv"),
    ({"columns": {"text": "prompt"}}, "'prompt'"),
    ({"columns": {"txt": "prompt"}}, "'txt'"),
    ({"strategy": "disagreement"}, "single classifier"),
    ({"output": "pool.csv"}, "exists"),
  ],
)
def test_mistakes_are_named(model, tmp_path, monkeypatch, options, words):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "pool.csv").write_text("id,text\n1,calm\n2,harm\n")
  before = sorted(tmp_path.iterdir())
  with pytest.raises(UserError) as error:
    select.select(str(model), **{"data": "pool.csv", **options})
  assert words in str(error.value)
  assert sorted(tmp_path.iterdir()) == before


def test_columns_of_any_name_are_read(model, tmp_path):
  pool = tmp_path / "traffic.csv"
  pool.write_text("n,prompt,verdict\n1,calm bread,rude\n2,harm,\n3,a kind text,?\n")
  columns = {"id": "n", "text": "prompt", "label": "verdict"}
  output = tmp_path / "next.jsonl"
  select.select(str(model), str(pool), output=str(output), columns=columns)
  assert [(row["id"], row["text"]) for row in read(output)] == [("2", "harm")]


def test_a_pool_without_unlabelled_rows_is_refused(model, tmp_path):
  pool = tmp_path / "pool.jsonl"
  pool.write_text('{"text": "calm", "label": 0}\n{"text": "Calm "}\n')
  with pytest.raises(
    UserError, match="1 rows have a label already, 1 rows are labelled"
  ):
    select.select(str(model), str(pool), output=str(tmp_path / "next.csv"))


def test_a_file_for_labelling_is_not_read_as_data(model, tmp_path):
  pool = tmp_path / "pool.jsonl"
  pool.write_text('{"text": "=calm"}\n')
  select.select(str(model), str(pool), output=str(tmp_path / "next.csv"))
  from ssljax.data.records.read import read_file

  with pytest.raises(UserError, match="--add=FILE"):
    read_file(tmp_path / "next.csv")


def test_metrics_on_chosen_texts_get_a_warning(tmp_path):
  from ssljax.data.records.read import read_labelled_with_notes

  path = tmp_path / "test.jsonl"
  rows = [{"text": f"t{i}", "label": i % 2, "source": "select"} for i in range(3)]
  path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  _, notes = read_labelled_with_notes(path)
  assert notes
  assert "chose 3 of 3 texts" in notes[0]


@pytest.mark.slow
def test_the_command_prints_what_it_did_and_one_line_for_a_mistake(place, tmp_path):
  flags = [f"--model={place}/run", f"--data={place}/data", f"--output={tmp_path}/n.csv"]
  done = runs.command(
    "ssljax.select", *flags, "--number=9", f"--doubts={tmp_path}/d.csv"
  )
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert lines[0].startswith("9 of 55 texts chosen (mixed): ")
  assert lines[-1] == f"wrote {tmp_path}/d.csv"
  assert len(read(tmp_path / "n.csv")) == 9
  content = (tmp_path / "n.csv").read_bytes()
  done = runs.command("ssljax.select", *flags, cwd=tmp_path)
  assert done.returncode == 2
  assert done.stderr.startswith(f"error: --output={tmp_path}/n.csv exists")
  assert len(done.stderr.splitlines()) == 1
  assert (tmp_path / "n.csv").read_bytes() == content
