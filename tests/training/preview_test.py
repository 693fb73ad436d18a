"""The share of truncated texts that a run reports."""

from pathlib import Path

import numpy as np

from ssljax.data import datasets
from ssljax.data.batches import loader, tokenize
from ssljax.data.records import records
from ssljax.training import preview


def view(*rows):
  """A view; `rows` has a flag per candidate: whether it is truncated."""
  flat = np.array([c for row in rows for c in row])
  offset = np.arange(len(flat) + 1)
  ones = np.ones(len(flat), np.int32)
  tokens = tokenize.Tokens(ones, offset, ones, flat)
  return loader.View(tokens, np.cumsum([0, *map(len, rows)]))


def test_each_row_counts_once_however_many_candidates_it_has():
  weak = view([True], [False])
  unlabelled = {
    "weak": view([False], [False]),
    "strong": view([True, False], [True]),
  }
  train = loader.TrainSet({"weak": weak}, unlabelled, np.zeros(2), np.zeros(2))
  part = datasets.EvalSet(
    records.from_rows([]), view([True], [True], [False], [False]).tokens
  )
  data = datasets.Sets(train, part, part, None, (), (), "", "", Path())
  assert preview.truncated_shares(data) == {
    "train (weak)": 0.25,
    "train (strong)": 0.75,
    "validation": 0.5,
    "test": 0.5,
  }
