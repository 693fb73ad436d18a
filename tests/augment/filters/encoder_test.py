"""The filters that run an encoder: similarity and the label check."""

import numpy as np
import pytest

from ssljax.augment.engine import Candidate, Source
from ssljax.augment.filters.encoder import load_filters
from ssljax.augment.filters.similarity import Similarity
from ssljax.augment.run import run
from ssljax.augment.settings import parse_config
from ssljax.evals.runs import read_run
from ssljax.inference.classifier import SafetyClassifier
from ssljax.models import load_encoder
from tests import tiny
from tests.augment import folders
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
  ids = [similarity._tokenizer(text)["input_ids"] for text in texts]
  padded = np.zeros((len(ids), max(map(len, ids))), np.int32)
  for row, tokens in zip(padded, ids, strict=True):
    row[: len(tokens)] = tokens
  mask = np.arange(padded.shape[1]) < np.array([[len(tokens)] for tokens in ids])
  states = np.asarray(model.apply({"params": params}, padded, mask))
  for vector, state, row in zip(vectors, states, mask, strict=True):
    mean = state[row].mean(axis=0)
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
  near, far = Candidate("kind calm help"), Candidate("steal hurt harm")
  pairs = [(Source("1", "kind calm help the"), near), (Source("2", texts[0]), far)]
  cosine = [
    float(similarity.embed([s.text, v.text]).prod(axis=0).sum()) for s, v in pairs
  ]
  for least in (-1.0, min(cosine) + 1e-3, max(cosine) + 1e-3):
    similarity._least = least
    assert similarity(pairs).tolist() == [c >= least for c in cosine]


@pytest.mark.slow
def test_similarity_compiles_once_for_each_row_length(encoder):
  similarity = Similarity(encoder, 0.5)
  rng = np.random.default_rng(0)
  for count in (1, 7, 300, 50):
    similarity.embed(["bread " * int(n) for n in rng.integers(1, 600, count)])
  compiled = similarity.scorer.eval_step
  assert compiled._cache_size() <= len(similarity.row_lengths)


def test_the_label_check_agrees_with_the_predictions_of_the_run(old_runs, monkeypatch):
  workdir = old_runs / "finished"
  predictions = read_run(workdir).predictions()
  # The run predicts one class. Subtracting the median makes it predict both.
  shift = np.array([0.0, np.median(np.diff(predictions.logits))], np.float32)
  logits = SafetyClassifier.logits

  def shifted(classifier, texts):
    output = logits(classifier, texts)
    return output._replace(logits=output.logits - shift)

  monkeypatch.setattr(SafetyClassifier, "logits", shifted)
  classes = (predictions.logits - shift).argmax(axis=1)
  assert set(classes) == {0, 1}
  texts = list(zip(predictions.text, predictions.response, strict=True))
  pairs = [
    (Source("1", *text), Candidate(*view))
    for text, view in zip(texts, np.roll(texts, 1, axis=0).tolist(), strict=True)
  ]
  settings, _ = parse_config(make_config(label_check=str(workdir)))
  same_label = load_filters(settings)["label flips"](pairs)
  assert same_label.tolist() == (classes == np.roll(classes, 1)).tolist()
  assert set(same_label) == {True, False}


@pytest.mark.slow
def test_a_run_drops_dissimilar_views(tmp_path, encoder, monkeypatch):
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  data = folders.make_folder(tmp_path / "data", 8, 1)
  sources = [
    Source(row["id"], row["text"]) for row in folders.read_train(data).to_pylist()
  ]
  similarity = Similarity(encoder, 0.0)
  cosine = [
    float(similarity.embed([s.text, folders.reverse_words(s.text)]).prod(axis=0).sum())
    for s in sources
  ]
  least = float(np.median(cosine)) - 1e-6
  config = make_config(
    attempts=1, least_similarity=least, similarity_encoder=encoder, stored=False
  )
  counts = run(config, data)["counts"]
  dropped = sum(c < least for c in cosine)
  assert counts.get("dropped: not similar", 0) == dropped
  assert counts["views"] == len(sources) - dropped
