"""Which class a value of a label column stands for; no two readings of one value."""

import decimal
import json

import numpy as np
import pytest

from ssljax.data.records.read import read_splits
from ssljax.data.sources import build, hub
from ssljax.data.sources.labels import label_id, parse_labels
from ssljax.errors import UserError


def ids(values, items, declared=()):
  labels = parse_labels(items, declared)
  return [label_id(value, labels, "rows.csv, line 2", "label") for value in values]


def failure(values, items, declared=()):
  with pytest.raises(UserError) as error:
    ids(values, items, declared)
  return str(error.value)


@pytest.mark.parametrize(
  "names", [["1", "2"], ["1", "0"], ["2", "0", "1"], ["no", "0"]]
)
def test_integers_of_a_class_label_are_ids(names):
  numbers = list(range(len(names)))
  assert ids(numbers, [], names) == numbers
  mine = ["fine", "rude", "spam"][: len(names)]
  assert ids(numbers, mine, names) == numbers
  assert "label is 3, which is not one of" in failure([3], [], names)
  assert "label is -1, which is not one of" in failure([-1], [], names)


def test_a_map_of_a_class_label_has_its_names():
  assert ids([0, 1, -1], ["1:1", "0:0", "-1:null"], ["1", "0"]) == [1, 0, None]
  assert "label is 1, which --labels doesn't list" in failure(
    [0, 1], ["a:0", "c:1"], ["a", "b"]
  )
  # The 0 of the map could be the id of the class `1`.
  assert "label is 0, which --labels doesn't list" in failure(
    [0, 1], ["0:0", "2:1"], ["1", "2"]
  )


def test_a_map_that_contradicts_itself():
  message = failure([0], ["0:1", "neg:0", "pos:1"], ["neg", "pos"])
  assert "'neg' is the name of the id 0, but they have different classes" in message
  assert ids([0, 1], ["0:0", "neg:0", "pos:1"], ["neg", "pos"]) == [0, 1]


def test_declared_names_that_differ_only_in_case():
  assert ids([0, 1, 2], [], ["a", "A", "b"]) == [0, 1, 2]
  assert ids([0, 1], ["0:1", "1:0"], ["a", "A"]) == [1, 0]
  assert ids(["b"], [], ["a", "A", "b"]) == [2]
  assert "label is 'a', which is not one of a, A" in failure(["a"], [], ["a", "A"])
  assert ids([0, 1], [], ["", "x"]) == [0, 1]


def test_the_order_of_a_class_label_cannot_be_changed_by_names():
  message = failure([0], ["yes", "no"], ["no", "yes"])
  assert "'yes' is class 0, but the dataset declares it as class 1" in message
  assert "--labels=yes:0,no:1" in message
  assert ids([0, 1], ["yes:0", "no:1"], ["no", "yes"]) == [1, 0]


def test_numbers_in_any_form_are_ids():
  ones = [1, 1.0, "1", "1.0", " 1 ", "01", decimal.Decimal("1.0"), np.float16(1)]
  for items in ([], ["fine", "rude"], ["0", "1"], ["fine:0", "0:0", "1:1"]):
    assert ids(ones, items) == [1] * len(ones)
    assert ids([0.0, "0.0", None, "", float("nan")], items) == [0, 0, None, None, None]


@pytest.mark.parametrize("names", [["1", "0"], ["1", "2"], ["no", "0"], ["1.0", "0.0"]])
def test_a_name_that_is_the_id_of_another_class_is_refused(names):
  message = failure([], names)
  assert "is the name of class" in message
  assert f"--labels={names[0]}:0,{names[1]}:1" in message
  assert "omit --labels if the column holds ids" in message
  pairs = [f"{name}:{i}" for i, name in enumerate(names)]
  assert ids(names, pairs) == [0, 1]


def test_names_that_are_numbers_but_no_ids():
  assert ids(["5", 5.0, 7], ["5", "7"]) == [0, 0, 1]
  assert ids(["-1", -1.0, 1, "1"], ["-1", "1"]) == [0, 0, 1, 1]
  for value, names in ((0, ["-1", "1"]), ("1", ["5", "7"]), (0.0, ["5", "rude"])):
    assert f"which is not one of {', '.join(names)}; list" in failure([value], names)


def test_a_map_lists_every_value():
  items = ["harmful:1", "unsafe:1", "ok:0", "?:null"]
  assert parse_labels(items).names == ("ok", "harmful")
  assert ids(["OK", "Harmful", "unsafe", "?", None], items) == [0, 1, 1, None, None]
  message = failure(["maybe"], items)
  assert message.startswith("rows.csv, line 2: label is 'maybe', which --labels")
  assert "VALUE:null" in message
  assert "which --labels doesn't list" in failure([1], items)
  assert ids([True, False, "true"], ["true:1", "False:0"]) == [1, 0, 1]
  assert "which is not a class id" in failure([True], [])
  assert ids(["a:b", "c"], ["a:b:1", "c:0"]) == [1, 0]


@pytest.mark.parametrize(
  ("items", "words"),
  [
    (["ok:0", "rude"], "'rude' has no id"),
    (["ok:0", "rude:2"], "the ids are 0, 2"),
    (["ok:0", "OK:1"], "occurs twice"),
    (["1:0", "1.0:1"], "occurs twice"),
    (["ok", "Ok"], "occurs twice"),
    (["ok", ""], "is empty"),
  ],
)
def test_flags_that_contradict_themselves(items, words):
  assert words in failure([], items)


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def test_a_class_label_with_digits_for_names(tmp_path, monkeypatch):
  def load(names):
    rows = [{"text": f"text {i}", "label": i % 2} for i in range(60)]
    part = hub.HubSplit(iter(rows), {"label": names}, ("text", "label"))
    monkeypatch.setattr(hub, "load_hub_dataset", lambda *_: {"train": part})

  for names in (("1", "2"), ("1", "0")):
    load(names)
    build.build_from_files("made/up", tmp_path / names[1], {})
    splits = read_splits(tmp_path / names[1])
    assert splits.labels == names
    for part in splits[:3]:
      expected = [int(text.split()[1]) % 2 for text in part.column("text")]
      assert part.label.tolist() == expected


def test_class_names_that_differ_between_splits(tmp_path, monkeypatch):
  part = lambda *names: hub.HubSplit(iter(()), {"label": names}, ("text", "label"))
  parts = {"train": part("no", "yes"), "test": part("yes", "no")}
  monkeypatch.setattr(hub, "load_hub_dataset", lambda *_: parts)
  with pytest.raises(UserError, match="label has other class names in one place"):
    build.build_from_files("made/up", tmp_path / "out", {})


def test_columns_can_be_left_out(tmp_path):
  row = {"id": "same", "category": 3, "response": ["x"]}
  rows = [{**row, "text": f"text {i}", "label": i % 2} for i in range(40)]
  source = write(tmp_path / "rows.jsonl", rows)
  without = {"id": "", "category": "", "response": ""}
  with pytest.raises(UserError, match="leave it out with --columns=OURS="):
    build.build_from_files(source, tmp_path / "out", {"id": "", "response": ""})
  about = build.build_from_files(source, tmp_path / "out", without)
  train = read_splits(tmp_path / "out").train
  assert about["task"] == "prompt"
  assert train.column("id")[0].startswith("rows.jsonl-train:")
  assert set(train.column("category") + train.column("response")) == {None}
  with pytest.raises(UserError, match="the text cannot be left out"):
    build.build_from_files(source, tmp_path / "none", {"text": ""})


def test_a_text_with_two_labels_is_noted(tmp_path):
  rows = [{"text": f"text {i}", "label": i % 2} for i in range(60)]
  rows += [{"text": "Text  4", "label": 1}, {"text": "text 6", "label": 0}]
  rows += [{"text": "text 9"}, {"text": "text 4", "response": "x", "label": 1}]
  source = write(tmp_path / "rows.jsonl", rows)
  about = build.build_from_files(source, tmp_path / "out", {})
  note = (
    f"1 text has more than one label: {source}, line 5 (label 0) and {source}, line 61 "
    "(label 1)"
  )
  assert note in about["notes"]
  assert note in read_splits(source).notes


@pytest.mark.parametrize("value", ["0_1", "\u0661", "\uff11"])
def test_only_plain_digits_are_ids(value):
  assert f"label is {value!r}, which is not" in failure([value], [])
  assert ids([value, "0"], [f"{value}:1", "0:0"]) == [1, 0]
