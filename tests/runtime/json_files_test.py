"""Tests of writing JSON files atomically."""

import json

import numpy as np
import pytest

from ssljax.runtime.json_files import write_json


def test_json_is_written_completely_or_the_old_file_stays(tmp_path):
  path = tmp_path / "new" / "result.json"
  write_json(path, {"a": float("nan"), "b": np.float32(0.5), "c": (1, np.arange(2))})
  assert json.loads(path.read_text()) == {"a": None, "b": 0.5, "c": [1, [0, 1]]}
  with pytest.raises(TypeError):
    write_json(path, {"a": 1, "z": object()})
  assert json.loads(path.read_text())["b"] == 0.5
  with open(path) as reader:  # who reads while it is replaced reads the old one, whole
    write_json(path, {"b": 2})
    assert json.load(reader)["b"] == 0.5
  assert json.loads(path.read_text()) == {"b": 2}
  assert [p.name for p in path.parent.iterdir()] == ["result.json"]
