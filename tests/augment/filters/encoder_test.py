"""The filters that run an encoder: similarity and the label check."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ssljax.augment.engine import Candidate, Source
from ssljax.augment.filters.similarity import Similarity
from ssljax.augment.filters.text import drop_reason
from ssljax.augment.run import run
from ssljax.augment.settings import parse_config
from ssljax.models import load_encoder
from tests import tiny
from tests.augment import command, folders
from tests.augment.command import make_config


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("encoder")
  tiny.folder_of_encoder(folder)
  return str(folder)


def test_similarity_is_the_cosine_of_mean_pooled_states(encoder):
  similarity = Similarity(encoder, 0.9)
  texts = ["kind calm help", "harm", "bread bake the a kind " * 9, "steal"]
  vectors = similarity.embed(texts)
  model, params = load_encoder(encoder)
  for text, vector in zip(texts, vectors, strict=True):
    ids = np.array([similarity._tokenizer(text)["input_ids"]], np.int32)
    mean = np.asarray(model.apply({"params": params}, ids, ids > 0))[0].mean(axis=0)
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
  near, far = Candidate("kind calm help"), Candidate("steal hurt harm")
  pairs = [(Source("1", "kind calm help the"), near), (Source("2", texts[0]), far)]
  cosine = [
    float(similarity.embed([s.text, v.text]).prod(axis=0).sum()) for s, v in pairs
  ]
  for least in (-1.0, min(cosine) + 1e-3, max(cosine) + 1e-3):
    similarity._least = least
    assert similarity(pairs).tolist() == [c >= least for c in cosine]


def test_similarity_compiles_once_for_each_row_length(encoder):
  similarity = Similarity(encoder, 0.5)
  rng = np.random.default_rng(0)
  for count in (1, 7, 300, 50):
    similarity.embed(["bread " * int(n) for n in rng.integers(1, 600, count)])
  compiled = similarity.scorer.args[0]
  assert compiled._cache_size() <= len(similarity.row_lengths)


@pytest.mark.slow
def test_the_label_check_agrees_with_the_predictions_of_the_run(tmp_path, encoder):
  from ssljax.augment.filters.label import SameLabel

  for seed, (name, rows) in enumerate({"train": 60, "val": 20, "test": 20}.items()):
    tiny.write_rows(tmp_path / f"{name}.jsonl", rows, seed)
  subprocess.run(
    [
      sys.executable,
      "-m",
      "ssljax.main",
      f"--config={command.ROOT}/configs/supervised.py",
      f"--workdir={tmp_path}/run",
      f"--config.data={tmp_path}",
      f"--config.encoder={encoder}",
      "--config.labels=16",
      "--config.batch=8",
      "--config.steps=16",
      "--config.max_length=32",
      "--config.learning_rate=0.003",
    ],
    cwd=command.ROOT,
    env={**os.environ, "XLA_FLAGS": "", "SSLJAX_CACHE": str(tmp_path / "cache")},
    check=True,
    capture_output=True,
  )
  logits = read_predictions(tmp_path / "run" / "predictions" / "test.parquet")
  label = {id: int(np.argmax(values)) for id, values in logits.items()}
  assert set(label.values()) == {0, 1}
  text = {row["id"]: row["text"] for row in read_jsonl(tmp_path / "test.jsonl")}
  pairs = list(zip(label, reversed(label), strict=True))
  same_label = SameLabel(tmp_path / "run")
  agrees = same_label([(Source(a, text[a]), Candidate(text[b])) for a, b in pairs])
  assert agrees.tolist() == [label[a] == label[b] for a, b in pairs]
  assert not agrees.all()

  # A run with both filters: the rows must be texts that the classifier knows.
  data = folders.make_folder(tmp_path / "data", 40, 1)
  texts = [row["text"] for row in read_jsonl(tmp_path / "train.jsonl")]
  rows = [
    row | {"text": text}
    for row, text in zip(folders.make_rows(40), texts, strict=False)
  ]
  folders.write_part(data / "train" / "part-0.parquet", rows)
  sources = [Source(row["id"], row["text"]) for row in rows]
  candidates = [Candidate(folders.reverse_words(source.text)) for source in sources]
  settings, _ = parse_config(make_config())
  passed = [
    (source, view)
    for source, view in zip(sources, candidates, strict=True)
    if not drop_reason(source, view, settings)
  ]
  similarity = Similarity(encoder, 0.0)
  cosine = np.array(
    [a @ b for a, b in (similarity.embed([s.text, v.text]) for s, v in passed)]
  )
  least = float(np.median(cosine)) - 1e-6
  far, flips = cosine < least, ~same_label(passed)
  filters = {"least_similarity": least, "similarity_encoder": encoder}
  filters["label_check"] = str(tmp_path / "run")
  counts = run(make_config(attempts=1, **filters), data)["counts"]
  assert counts["dropped: not similar"] == far.sum() > 0
  assert counts.get("dropped: label flips", 0) == (flips & ~far).sum()
  assert counts["views"] == (~far & ~flips).sum() > 0


def read_predictions(path):
  import pyarrow.parquet as pq

  return {row["id"]: row["logits"] for row in pq.read_table(path).to_pylist()}


def read_jsonl(path):
  return [json.loads(line) for line in path.read_text().splitlines()]
