"""`prepare --add`: new labels reach the rows that they are for, and no others."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from ssljax.data.prepare import prepare
from ssljax.data.sources import build
from ssljax.errors import UserError
from tests.data import csv_source

NAMES = ("fine", "rude")


@pytest.fixture
def source(tmp_path):
  """A dataset of 30 labelled and 5 unlabelled rows, prepared."""
  rows = [
    {"id": f"r{i}", "text": f"text number {i}", "label": i % 2} for i in range(30)
  ]
  rows += [
    {"id": f"u{i}", "text": f"new, {i}\n(line)", "label": None} for i in range(5)
  ]
  path = tmp_path / "all.jsonl"
  path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  prepare(str(path), str(tmp_path / "first"), labels=NAMES)
  return tmp_path / "first"


def splits(folder):
  names = ("train", "validation", "test")
  parts = {name: pq.read_table(folder / name).to_pylist() for name in names}
  return {name: {row["id"]: row for row in part} for name, part in parts.items()}


def write_csv(path, rows):
  with open(path, "w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
  return str(path)


def add(source, rows, tmp_path, **options):
  file = write_csv(tmp_path / "next.csv", rows)
  output = tmp_path / "second"
  about = prepare(str(source), str(output), add=[file], **options)
  return splits(output), about


def row_of(id_, text, name, source="select"):
  return {"id": id_, "text": text, "label_name": name, "source": source}


def test_an_unlabelled_row_gets_its_label_and_the_splits_stay(source, tmp_path):
  rows = [
    row_of("u1", "new, 1\n(line)", "Rude"),
    row_of("u2", "new, 2\n(line)", ""),
    row_of("u3", "new, 3\n(line)", "  "),
    row_of("other id", "new, 4\n(line)", "fine"),
  ]
  before, (after, about) = splits(source), add(source, rows, tmp_path)
  expected = dict(before["train"])
  for id_, label in (("u1", 1), ("u4", 0)):
    new = {"label": label, "label_name": NAMES[label], "source": "select"}
    expected[id_] = expected[id_] | new
  for name in before:
    assert after[name].keys() == before[name].keys()
  same = lambda row: {**row, "source": row["source"] == "select"}
  assert {k: same(v) for k, v in after["train"].items()} == {
    k: same(v) for k, v in expected.items()
  }
  note = "2 texts of train got a label, 2 still unlabelled"
  assert any(note in line for line in about["notes"])


def test_a_new_text_is_appended_to_train_only(source, tmp_path):
  rows = [row_of("x", "a new text", "1"), row_of("r0", "another new text", "0")]
  after, about = add(source, rows, tmp_path)
  assert after["train"]["x"]["label"] == 1
  assert after["train"]["x"]["source"] == "select"
  new = [row for row in after["train"].values() if row["text"] == "another new text"]
  assert [(row["id"], row["label"]) for row in new] == [("added:r0", 0)]
  assert any("2 texts added to train" in line for line in about["notes"])


def test_a_text_of_the_test_split_is_not_added(source, tmp_path):
  before = splits(source)
  test = next(iter(before["test"].values()))
  rows = [row_of("x", test["text"], "fine"), row_of("y", "a new text", "fine")]
  after, about = add(source, rows, tmp_path)
  assert after["train"].keys() - before["train"].keys() == {"y"}
  assert after["test"].keys() == before["test"].keys()
  assert sum(about["dropped"].values()) == 1


def test_a_corrected_label_replaces_the_old_one_in_any_split(source, tmp_path):
  before = splits(source)
  row = next(iter(before["test"].values()))
  other = NAMES[1 - row["label"]]
  rows = [row_of(row["id"], row["text"], other, source="")]
  after, about = add(source, rows, tmp_path)
  assert after["test"][row["id"]]["label_name"] == other
  assert after["test"][row["id"]]["source"] != "select"
  assert any("1 labels replaced" in line for line in about["notes"])


def test_chosen_texts_stay_in_train_when_a_file_is_split(tmp_path):
  rows = [row_of(f"r{i}", f"text {i}", NAMES[i % 2], "") for i in range(40)]
  chosen = [row_of(f"s{i}", f"chosen {i}", NAMES[i % 2]) for i in range(40)]
  file = write_csv(tmp_path / "all.csv", rows + chosen)
  options = {"columns": ["label=label_name"], "labels": NAMES}
  prepare(file, str(tmp_path / "out"), **options)
  parts = splits(tmp_path / "out")
  assert {row["id"] for row in chosen} <= parts["train"].keys()
  assert {row["source"] for row in parts["test"].values()} == {"all.csv-train"}
  again = tmp_path / "again"  # the mark survives
  prepare(str(tmp_path / "out"), str(again))
  marked = {k for k, row in splits(again)["train"].items() if row["source"] == "select"}
  assert marked == {row["id"] for row in chosen}


@pytest.mark.parametrize(
  ("rows", "options", "words"),
  [
    ([row_of("a", "b", "rood")], {}, ["next.csv, line 2", "'rood'", "fine, rude"]),
    ([row_of("a", "b", "fine")], {"as_": "test"}, ["--add", "train split"]),
  ],
)
def test_mistakes_are_named(tmp_path, rows, options, words):
  base = [row_of(f"r{i}", f"text {i}", NAMES[i % 2], "") for i in range(20)]
  source = write_csv(tmp_path / "base.csv", base)
  options = {"columns": ["label=label_name"], "labels": NAMES, **options}
  with pytest.raises(UserError) as error:
    add(source, rows, tmp_path, **options)
  assert all(word in str(error.value) for word in words)
  assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("as_", ["test", ""])
def test_chosen_texts_are_refused_where_models_are_judged(tmp_path, as_):
  file = write_csv(tmp_path / "a.csv", [row_of(str(i), f"t{i}", "0") for i in range(9)])
  with pytest.raises(UserError, match=r"ssljax\.select"):
    prepare(file, str(tmp_path / "out"), columns=["label=label_name"], as_=as_)


def test_a_file_of_the_same_name_can_be_added_again_and_again(source, tmp_path):
  """Rows without ids are numbered, so those of each round have the same numbers."""
  for turn in range(3):
    file = write_csv(
      tmp_path / "next.csv", [{"text": f"t{turn}", "label_name": "rude"}]
    )
    output = tmp_path / f"round{turn}"
    prepare(str(source), str(output), add=[file])
    source = output
  texts = {row["text"] for row in splits(source)["train"].values()}
  assert {"t0", "t1", "t2"} <= texts


def test_a_file_without_labels_is_refused(source, tmp_path):
  with pytest.raises(UserError, match=r"no column label_name \(the file has text, lab"):
    add(source, [{"text": "a new text", "labels": "rude"}], tmp_path)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_doubted_label_is_replaced_in_data_without_ids(tmp_path, split):
  """Training and `prepare` give such rows other ids."""
  rows = [{"text": f"text {i}", "label": i % 2} for i in range(8)]
  for name in ("train", "validation", "test"):
    path = tmp_path / "data" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    lines = [json.dumps({**row, "text": f"{name} {row['text']}"}) for row in rows]
    path.write_text("\n".join(lines))
  doubt = {"id": f"{split}:4", "text": f"{split} text 3", "label_name": "0"}
  _, about = add(tmp_path / "data", [{**doubt, "suggested": "0"}], tmp_path)
  for name, part in splits(tmp_path / "second").items():
    labels = {row["text"]: row["label"] for row in part.values()}
    assert len(labels) == len(part) == 8
    assert labels[f"{name} text 3"] == (name != split)
  assert any("1 labels replaced" in note for note in about["notes"])


def test_a_dataset_that_is_prepared_again_keeps_its_licence(tmp_path):
  mine = csv_source.write_csv(tmp_path / "mine.csv")
  first = csv_source.make(mine, tmp_path / "one")
  assert first["licence"] == "see the source"
  path = tmp_path / "one" / "dataset.json"
  path.write_text(json.dumps({**first, "licence": "CC BY 4.0"}))
  again = build.build_from_files(str(tmp_path / "one"), tmp_path / "two", {})
  assert again["licence"] == "CC BY 4.0"
  (tmp_path / "next.csv").write_text("text,label_name\nanother text,rude\n")
  source = str(tmp_path / "two")
  for name in ("three", "four"):  # ssljax doesn't know the licence of these texts
    add = [str(tmp_path / "next.csv")]
    more = build.build_from_files(source, tmp_path / name, {}, add=add)
    assert more["licence"] == "CC BY 4.0; for added texts, see their source"
    source = str(tmp_path / name)


def numbered(tmp_path):
  """A dataset whose classes are named 1 and 2, with a text without a label."""
  rows = [{"id": f"r{i}", "text": f"text {i}", "label": 1 + i % 2} for i in range(30)]
  path = tmp_path / "all.jsonl"
  rows.append({"id": "u", "text": "new", "label": None})
  path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  prepare(str(path), str(tmp_path / "first"), labels=["1:0", "2:1"])
  return tmp_path / "first"


@pytest.mark.parametrize("value", [1, 1.0, "1"])
def test_a_name_that_is_a_number_is_no_id(tmp_path, value):
  file = tmp_path / "next.jsonl"
  file.write_text(json.dumps({"text": "new", "label_name": value}))
  prepare(str(numbered(tmp_path)), str(tmp_path / "second"), add=[str(file)])
  assert splits(tmp_path / "second")["train"]["u"]["label"] == 0


@pytest.mark.parametrize("value", [1, "1", 0])
def test_a_label_that_may_be_a_name_or_an_id_is_refused(tmp_path, value):
  file = tmp_path / "next.jsonl"
  file.write_text(json.dumps({"text": "new", "label": value}))
  with pytest.raises(UserError, match=r"line 1: label is .*, which may be a class id"):
    prepare(str(numbered(tmp_path)), str(tmp_path / "second"), add=[str(file)])
  assert not (tmp_path / "second").exists()
