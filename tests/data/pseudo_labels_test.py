"""Files of pseudo-labels: what they hold, their mistakes, and the texts they add."""

import json

import numpy as np
import pytest

from ssljax.data import pseudo_labels
from ssljax.data.pseudo_labels import PseudoLabels, expand, pool
from ssljax.data.records.records import concat, from_rows
from ssljax.errors import UserError

NAMES = ("fine", "harmful")
LABELLED = from_rows(
  [{"id": f"x{i}", "text": f"x {i}", "label": i % 2, "label_name": NAMES[i % 2]}
   for i in range(4)]
)  # fmt: skip
UNLABELLED = from_rows(
  [{"id": f"u{i}", "text": f"u {i}", "label": i % 2, "label_name": NAMES[i % 2]}
   for i in range(6)]
)  # fmt: skip


def write_lines(path, *rows):
  path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  return str(path)


def test_a_file_holds_a_line_for_each_text(tmp_path):
  pseudo = PseudoLabels(["a", "ü"], np.array([0, 1]), np.array([0, 3]))
  pseudo_labels.write(tmp_path / "p.jsonl", pseudo, np.array([0.51, 0.9234567]))
  assert (tmp_path / "p.jsonl").read_text().splitlines() == [
    '{"id": "a", "label": 0, "confidence": 0.51, "copies": 0}',
    '{"id": "ü", "label": 1, "confidence": 0.923457, "copies": 3}',
  ]
  read = pseudo_labels.read(tmp_path / "p.jsonl", 2)
  assert read.id == pseudo.id
  assert read.label.tolist() == [0, 1]
  assert read.copies.tolist() == [0, 3]


def test_drawn_texts_become_labelled_texts(tmp_path):
  path = write_lines(
    tmp_path / "p.jsonl",
    {"id": "u4", "label": 1, "copies": 2},
    {"id": "u1", "label": 0},  # wrong; copies is 1
    {"id": "u2", "label": 1, "copies": 0},
  )
  labelled, unlabelled, note = expand(path, LABELLED, UNLABELLED, NAMES)
  assert labelled.take(np.arange(4)) == LABELLED
  added = labelled.take(np.arange(4, 7))
  assert added.column("id") == ["u4", "u4", "u1"]
  assert added.column("text") == ["u 4", "u 4", "u 1"]
  assert added.label.tolist() == [1, 1, 0]
  assert added.column("label_name") == [None] * 3
  assert unlabelled.column("id") == ["u0", "u2", "u3", "u5"]
  assert unlabelled.label.tolist() == [0, 0, 1, 1]  # their true labels
  assert "2 texts train with pseudo-labels (1 fine, 1 harmful), as 3 labelled" in note
  assert expand(path, LABELLED, UNLABELLED, NAMES, True).unlabelled == UNLABELLED


def test_a_true_label_wins(tmp_path):
  path = write_lines(tmp_path / "p.jsonl", {"id": "x0", "label": 1})
  labelled, unlabelled, note = expand(path, LABELLED, UNLABELLED, NAMES)
  assert labelled == LABELLED
  assert unlabelled == UNLABELLED
  assert note.endswith("1 texts keep their own labels")


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ({"label": 1}, "line 2: id None is not a string"),
    ({"id": 5.5, "label": 1}, "line 2: id 5.5 is not a string"),
    ({"id": "u0", "label": 1}, "line 2: id 'u0' already occurs in .*line 1"),
    ({"id": "u1"}, "line 2: label None is not a class id.*from 0 to 1"),
    ({"id": "u1", "label": 2}, "line 2: label 2 is not a class id"),
    ({"id": "u1", "label": True}, "line 2: label True is not a class id"),
    ({"id": "u1", "label": 1, "copies": -1}, "line 2: copies is -1; use an integer"),
    ({"id": "test0", "label": 1}, "id 'test0' is not an unlabelled text of train"),
  ],
)
def test_mistakes_are_named(tmp_path, row, message):
  path = write_lines(tmp_path / "p.jsonl", {"id": "u0", "label": 0}, row)
  with pytest.raises(UserError, match=message):
    expand(path, LABELLED, UNLABELLED, NAMES)


def test_a_file_that_is_missing_or_empty(tmp_path):
  with pytest.raises(UserError, match="no such file"):
    expand(str(tmp_path / "p.jsonl"), LABELLED, UNLABELLED, NAMES)
  path = write_lines(tmp_path / "p.jsonl")
  assert expand(path, LABELLED, UNLABELLED, NAMES).labelled == LABELLED


def test_neither_labelled_texts_nor_their_copies_are_in_the_pool():
  texts = ["X  0", "x 9", "x 1\u200b", "x 2"]  # x 0 and x 1 are labelled
  rows = [{"id": f"u{i}", "text": text} for i, text in enumerate(texts[:3])]
  pairs = [{"id": "u3", "text": "x 2", "response": "no"}]
  unlabelled = concat([from_rows(rows), from_rows(pairs), LABELLED])
  assert pool(LABELLED, unlabelled).column("id") == ["u1"]
