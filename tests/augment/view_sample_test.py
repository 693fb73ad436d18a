"""Drawn rows and dropped candidates, compared with what the files contain."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.augment import view_sample
from ssljax.augment.rows import DROPPED
from ssljax.augment.view_sample import sample_dropped, sample_rows
from ssljax.errors import UserError
from tests.augment import folders

VIEW = {"kind": "mine", "text": "a view", "response": None, "origin": "e:1"}


@pytest.fixture
def paths(tmp_path):
  """Three files of 20 rows: 0, 4, … have a view of kind old, odd ones two of mine."""
  paths = []
  for part in range(3):
    rows = folders.make_rows(20, 20 * part)
    for row in rows[1::2]:
      row["views"] = [*(row["views"] or []), VIEW, VIEW]
    paths.append(tmp_path / f"part-{part}.parquet")
    table = pa.Table.from_pylist(rows, folders.SCHEMA)
    pq.write_table(table, paths[-1], row_group_size=7)
  return paths


def numbers(rows):
  return [int(row["id"].split("-")[1]) for row in rows]


def test_rows_with_views_are_drawn_from_all_files(paths):
  sample = sample_rows(paths, "", 100, 0)
  assert (sample.rows_in_split, sample.rows_with_views) == (60, 45)
  assert sample.kinds == {"old": 15, "mine": 60}
  assert numbers(sample.rows) == [i for i in range(60) if i % 4 != 2]
  sample = sample_rows(paths, "mine", 9, 0)
  assert (sample.rows_in_split, sample.rows_with_views) == (60, 30)
  assert len(sample.rows) == 9
  assert all(i % 2 for i in numbers(sample.rows))
  assert numbers(sample.rows) == sorted(set(numbers(sample.rows)))
  for row in sample.rows:
    assert [view["kind"] for view in row["views"]] == ["mine", "mine"]
    assert row["text"].endswith(f" {numbers([row])[0]}")


def test_the_seed_decides_which_rows_are_drawn(paths):
  drawn = [numbers(sample_rows(paths, "", 9, seed).rows) for seed in (0, 0, 1)]
  assert drawn[0] == drawn[1] != drawn[2]
  counts = Counter(
    i for s in range(60) for i in numbers(sample_rows(paths, "", 9, s).rows)
  )
  assert len(counts) == 45  # every row with views is drawn by some seed


def test_rows_are_taken_by_their_position(paths):
  for positions in ([], [0], [6, 7, 19, 20, 59], [*range(60)]):
    rows = view_sample.take_rows(paths, np.array(positions, int))
    assert numbers(rows) == positions


def test_rows_of_a_large_row_group_are_taken_by_their_position(tmp_path):
  path = tmp_path / "part-0.parquet"
  folders.write_part(path, folders.make_rows(3000))
  rows = view_sample.take_rows([path], np.array([5, 1023, 1024, 2999]))
  assert numbers(rows) == [5, 1023, 1024, 2999]


@pytest.fixture
def dropped(tmp_path):
  """Row i has candidates that were dropped: half of them rare, the others common."""
  path = tmp_path / "dropped.parquet"
  reasons = ["rare"] * 4 + ["middle"] * 16 + ["common"] * 80
  rows = [
    {"id": f"row-{i % 50}", "number": i // 50, "reason": reason, "text": f"text {i}"}
    for i, reason in enumerate(reasons)
  ]
  pq.write_table(pa.Table.from_pylist(rows, DROPPED), path, row_group_size=30)
  return path


def test_all_candidates_of_the_rows_and_some_for_every_reason_are_read(dropped):
  sample = sample_dropped(dropped, ["row-3", "row-49"], 30, 0)
  assert sample.by_reason == {"rare": 4, "middle": 16, "common": 80}
  assert {id: [c["text"] for c in rows] for id, rows in sample.of_rows.items()} == {
    "row-3": ["text 3", "text 53"],
    "row-49": ["text 49", "text 99"],
  }
  assert not {"row-3", "row-49"} & {c["id"] for c in sample.drawn}
  counts = Counter(candidate["reason"] for candidate in sample.drawn)
  assert counts == {"rare": 3, "middle": 14, "common": 13}
  assert len(sample_dropped(dropped, [], 1000, 0).drawn) == 100
  assert sample_dropped(dropped, ["row-3"], 0, 0).drawn == []


def test_candidates_of_other_splits_are_left_out(dropped):
  split = pa.array(["row-1", "row-30"], pa.large_string())
  sample = sample_dropped(dropped, ["row-1", "row-2"], 30, 0, split)
  assert sample.by_reason == {"rare": 1, "common": 3}
  assert [*sample.of_rows] == ["row-1"]
  assert {c["id"] for c in sample.drawn} == {"row-30"}


def test_a_missing_file_has_no_candidates(tmp_path):
  assert sample_dropped(tmp_path / "no.parquet", ["x"], 3, 0) == ({}, [], {})


def test_a_file_with_other_columns_is_an_error(tmp_path):
  path = tmp_path / "x.parquet"
  pq.write_table(pa.table({"id": ["1"]}), path)
  with pytest.raises(
    UserError, match=r"x\.parquet: its columns aren't those of dropped"
  ):
    sample_dropped(path, [], 3, 0)


def test_rows_are_found_by_their_ids(paths):
  rows = view_sample.find_rows(paths, ["row-5", "row-59", "nowhere"])
  assert {id: row["text"].split()[-1] for id, row in rows.items()} == {
    "row-5": "5",
    "row-59": "59",
  }
