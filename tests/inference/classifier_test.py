"""SafetyClassifier: runs and exported folders give the same scores.

A single file, since its tests share runs and their exports.
"""

import copy
import importlib
import json
import os
import re
import shutil
import threading
import time

import jax
import numpy as np
import pytest

from ssljax import SafetyClassifier, export
from ssljax.data.batches import tokenize
from ssljax.errors import RunError, UserError
from ssljax.evals.classification import softmax
from ssljax.evals.runs import read_run
from ssljax.inference import exported as exported_folder
from ssljax.inference.load import load_trained
from ssljax.training import pytrees
from tests import runs

predict = importlib.import_module("ssljax.predict")  # ssljax.predict is a function

UMASK = os.umask(0)
os.umask(UMASK)
TEXTS = ["calm bread", ("harm the bake", "steal"), "kind " * 60, ("a", None), "hurt"]


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory, old_runs):
  """Finished runs by head: MultiMatch's voters, and the extra head of ABC."""
  place = runs.folder(tmp_path_factory.mktemp("classifier"))
  flags = ["--config.head=hf", "--config.wrapper.name=abc"]
  code, printed = runs.run("fixmatch", place / "abc", *flags, place=place)
  assert code == 0, printed
  return {"mlp": old_runs / "finished", "hf": place / "abc"}


@pytest.fixture(scope="module")
def exported(workdirs, tmp_path_factory):
  """Their exported folders."""
  folders = {head: tmp_path_factory.mktemp("exported") / head for head in workdirs}
  for head, folder in folders.items():
    export.export(workdirs[head], folder)
  return folders


def unfinished(workdir, folder):
  """A copy of a run that has no result yet."""
  shutil.copytree(workdir, folder)
  (folder / "result.json").unlink()
  return folder


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mlp", "hf"])
def test_an_exported_folder_scores_as_the_run(workdirs, exported, head):
  run = SafetyClassifier.load(workdirs[head])
  folder = SafetyClassifier.load(exported[head])
  np.testing.assert_allclose(run(TEXTS), folder(TEXTS), atol=1e-6)
  assert run.labels == folder.labels
  assert run.thresholds == folder.thresholds
  assert folder.temperature == 1.0  # it's in the weights
  plain = softmax(folder.logits(TEXTS).logits)  # as other libraries compute it
  np.testing.assert_allclose(plain, run.probabilities(TEXTS), atol=1e-6)
  for file in exported[head].rglob("*"):
    assert file.is_dir() or file.stat().st_mode & 0o777 == 0o666 & ~UMASK
  predictions = read_run(workdirs[head]).predictions()
  texts = list(zip(predictions.text, predictions.response, strict=True))
  np.testing.assert_allclose(folder(texts), predictions.score, atol=1e-5)
  assert folder.logits(TEXTS).truncated.tolist() == [False, False, True, False, False]


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mlp", "hf"])
def test_step_and_hash_in_the_card_belong_together(workdirs, exported, head):
  trained = load_trained(workdirs[head])
  card = json.loads((exported[head] / "ssljax.json").read_text())
  assert card["step"] == trained.step
  assert card["params_sha256"] == pytrees.sha256(trained.params)


LONG = " ".join(["harm", *["kind"] * 40, "bread", "calm"])  # begin and end differ


def test_torch_libraries_read_and_truncate_texts_alike(exported):
  pytest.importorskip("torch", reason="pip install torch")
  library = pytest.importorskip(
    "sentence_transformers", reason="pip install sentence-transformers"
  )
  import transformers

  texts = ["calm bread", LONG, ("harm the bake", "steal")]
  logits = library.SentenceTransformer(str(exported["mlp"]), device="cpu").encode(texts)
  classifier = SafetyClassifier.load(exported["mlp"])
  np.testing.assert_allclose(logits, classifier.logits(texts).logits, atol=1e-4)

  pipeline = transformers.pipeline("text-classification", model=str(exported["hf"]))
  texts = [{"text": "calm bread"}, {"text": LONG}, {"text": "harm", "text_pair": "a"}]
  outputs = pipeline(texts, top_k=None, function_to_apply="none", truncation=True)
  by_label = [{entry["label"]: entry["score"] for entry in row} for row in outputs]
  logits = [[scores["0"], scores["1"]] for scores in by_label]
  texts = ["calm bread", LONG, ("harm", "a")]
  classifier = SafetyClassifier.load(exported["hf"])
  np.testing.assert_allclose(logits, classifier.logits(texts).logits, atol=1e-4)
  assert classifier.logits([LONG, LONG[:-4]]).truncated.all()


@pytest.mark.parametrize("head", ["mlp", "hf"])
def test_the_code_in_the_model_card_gives_the_scores(workdirs, exported, head):
  pytest.importorskip("torch", reason="pip install torch")
  pytest.importorskip(
    "sentence_transformers", reason="pip install sentence-transformers"
  )
  card = (exported[head] / "README.md").read_text()
  values: dict = {}
  for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
    exec(code.replace("FOLDER", str(exported[head])), values)
  run = SafetyClassifier.load(workdirs[head])
  texts = ["a prompt", ("a prompt", "its response")]
  np.testing.assert_allclose(values["scores"], run(texts), atol=1e-5)
  if head == "hf":
    texts = texts[:1]
  plain = values["probabilities"].detach().cpu().numpy()
  np.testing.assert_allclose(plain, run.probabilities(texts), atol=1e-5)
  if head == "mlp":
    assert abs(run.temperature - 1) > 0.05  # otherwise the test shows nothing


def test_export_overwrites_nothing_and_needs_a_finished_run(workdirs, tmp_path):
  (tmp_path / "there").mkdir()
  with pytest.raises(UserError, match="exists; name a new folder"):
    export.export(workdirs["mlp"], tmp_path / "there")
  workdir = unfinished(workdirs["mlp"], tmp_path / "unfinished")
  with pytest.raises(UserError, match="finished"):
    export.export(workdir, tmp_path / "new")
  assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_export_compares_logits_with_the_run(workdirs, tmp_path, monkeypatch):
  write_dense = export._write_dense

  def write_another_bias(params, *more):
    dense = params["dense"]
    return write_dense({**params, "dense": {**dense, "bias": dense["bias"] + 1}}, *more)

  monkeypatch.setattr(export, "_write_dense", write_another_bias)
  with pytest.raises(RunError, match="exported model differ by"):
    export.export(workdirs["mlp"], tmp_path / "wrong")
  assert not list(tmp_path.iterdir())


def test_an_unfinished_run_scores_with_a_note_that_it_is_not_calibrated(
  workdirs, tmp_path, capsys
):
  workdir = unfinished(workdirs["mlp"], tmp_path / "unfinished")
  classifier = SafetyClassifier.load(workdir)
  assert "not calibrated" in capsys.readouterr().err
  assert (classifier.temperature, classifier.thresholds) == (1.0, {})
  with pytest.raises(UserError, match=r"no thresholds; give a number from 0 to 1$"):
    classifier.threshold("fpr=1%")
  assert SafetyClassifier.load(workdirs["mlp"]).thresholds
  assert not capsys.readouterr().err


def test_scores_do_not_depend_on_the_other_texts_or_their_order(classifier):
  texts = [f"calm {'bread ' * (i % 9)}harm {i}" for i in range(40)]
  expected = classifier(texts)
  alone = np.concatenate([classifier([text]) for text in texts])
  np.testing.assert_allclose(alone, expected, atol=1e-6)
  np.testing.assert_allclose(classifier(texts[::-1])[::-1], expected, atol=1e-6)


def test_threads_get_their_own_scores_and_the_model_runs_once_at_a_time(
  classifier, monkeypatch
):
  texts = [f"calm {'bread ' * (i % 9)}harm {i}" for i in range(40)]
  expected = classifier(texts)
  score, inside, most, results = classifier._score, [], [], {}

  def slow_score(tokens, **more):
    inside.append(None)
    most.append(len(inside))
    time.sleep(0.05)  # lets the other threads in, if they may
    inside.pop()
    return score(tokens, **more)

  monkeypatch.setattr(classifier, "_score", slow_score)
  start = threading.Barrier(4)

  def work(k):
    start.wait()
    results[k] = classifier(texts[k::4])

  threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(most) == 4
  assert max(most) == 1
  for k in range(4):
    np.testing.assert_allclose(results[k], expected[k::4], atol=1e-6)


def test_unpaired_surrogates_are_scored_as_the_replacement_character(
  classifier, monkeypatch
):
  encode, encoded = tokenize.encode, []

  def recording(tokenizer, prompts, responses, max_length):
    encoded.append((*prompts, *responses))
    return encode(tokenizer, prompts, responses, max_length)

  monkeypatch.setattr(tokenize, "encode", recording)
  classifier(["harm \ud83d", "\ude00 calm", ("\ud83d\U0001f600", "\ud83d\ud83d x")])
  assert encoded == [
    ("harm \ufffd", "\ufffd calm", "\ufffd\U0001f600", None, None, "\ufffd\ufffd x")
  ]


BLANK = ["", " \n\t\u3000", ("", None), ("", "steal"), ("  ", "")]


def test_a_text_without_content_has_no_score(classifier):
  texts = ["calm bread", *BLANK, ("harm", ""), "kind " * 60]
  nonempty = [0, 6, 7]
  scores, output = classifier(texts), classifier.logits(texts)
  expected = [True, *[False] * len(BLANK), True, True]
  assert np.isfinite(scores).tolist() == expected
  assert np.isfinite(output.logits).all(1).tolist() == expected
  assert np.isfinite(classifier.probabilities(texts)).all(1).tolist() == expected
  assert output.truncated.tolist() == [False] * 7 + [True]
  np.testing.assert_allclose(scores[nonempty], classifier([texts[i] for i in nonempty]))
  assert np.isnan(classifier(BLANK)).all()  # a call without any text to score
  assert not (scores[1:6] >= 0).any()  # no threshold flags them
  turn = {"role": "user", "content": " "}
  assert classifier.moderate([[turn]]) == [0.0]


@pytest.mark.parametrize("texts", [BLANK, ["", "calm", None], ["harm", "", "steal"]])
def test_predict_and_the_classifier_skip_the_same_texts(classifier, texts):
  pairs = [text if isinstance(text, tuple) else (text, None) for text in texts]
  rows = predict.Scorer(classifier, "")(pairs)
  scores = classifier([text or "" for text in texts])
  assert [row["score"] is None for row in rows] == np.isnan(scores).tolist()


@pytest.mark.parametrize(
  ("wrong", "shown"),
  [
    (None, "None"),
    (3, "3"),
    (float("nan"), "nan"),
    (b"ab", "b'ab'"),
    ({"a": 1, "b": 2}, "{'a'"),
    (("a",), r"\('a',\)"),
    (("a", "b", "c"), r"\('a', 'b', 'c'\)"),
    ((None, "a"), r"\(None, 'a'\)"),
    (("a", 3), r"\('a', 3\)"),
  ],
)
def test_an_element_that_is_no_text_is_named_with_its_index(classifier, wrong, shown):
  message = rf"^texts\[1\]: {shown}.* give a text, or a pair of prompt and response$"
  for call in (classifier, classifier.logits, classifier.probabilities):
    with pytest.raises(TypeError, match=message):
      call(["calm", wrong])


def test_empty_and_single_texts(classifier):
  assert classifier([]).shape == (0,)
  with pytest.raises(TypeError, match="a list of texts"):
    classifier("a single text")


def test_scores_are_the_probability_of_the_second_class(classifier):
  np.testing.assert_allclose(
    classifier.probabilities(TEXTS)[:, 1], classifier(TEXTS), atol=1e-12
  )


def test_an_id_without_an_embedding_is_refused_and_its_neighbours_are_scored(
  model, tmp_path
):
  """The row of such a text would be NaN, which no threshold flags."""
  folder = shutil.copytree(model, tmp_path / "larger")
  words = "\n".join(f"more{i}" for i in range(100))
  with open(folder / "vocab.txt", "a") as file:
    file.write(f"{words}\n")
  exported_folder.seal(folder, json.loads((folder / "ssljax.json").read_text()))
  classifier = SafetyClassifier.load(folder)
  scores = classifier(["harm", "more0"])  # within the vocabulary of the encoder
  assert np.isfinite(scores).all()
  problem = r"the tokenizer produces id 114 \(more99\), but the embedding has only 100"
  with pytest.raises(UserError, match=rf"^texts\[2\]: {problem} rows .*; use"):
    classifier(["harm", " ", "harm more99"])
  with pytest.raises(UserError, match=problem):
    classifier.moderate([[{"role": "user", "content": "harm more99"}]])
  source = tmp_path / "in.jsonl"
  source.write_text("".join(f'{{"text": "{t}"}}\n' for t in ("a", "", "more99")))
  for target in ("out.jsonl", "-"):
    with pytest.raises(UserError, match=f"^row 3: {problem}"):
      predict.predict(classifier, source, "-" if target == "-" else tmp_path / target)


def test_a_score_that_is_not_finite_is_never_returned(classifier, tmp_path):
  """Whatever the cause: here, memory that has changed since the model was loaded."""
  damaged = copy.copy(classifier)
  params = jax.tree.map(lambda leaf: leaf * np.nan, classifier._score.params)
  damaged._score = classifier._score._replace(params=params)
  with pytest.raises(
    RunError, match=r"^texts\[1\]: .* not finite \(for 2 of 2 texts\)"
  ):
    damaged(["", "harm", "calm"])
  with pytest.raises(RunError, match="not finite"):
    damaged.moderate([[{"role": "user", "content": "harm"}]])
  (tmp_path / "in.jsonl").write_text('{"text": "harm"}\n')
  with pytest.raises(RunError, match=r"^row 1: .* not finite"):
    predict.predict(damaged, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
  assert not (tmp_path / "out.jsonl").exists()


def test_moderate_scores_the_last_user_turn_and_its_answer(classifier):
  turns = [
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "no"},
    {"role": "user", "content": "harm the bake"},
    {"role": "assistant", "content": "steal"},
  ]
  scores = classifier.moderate([turns, turns[:3]], model_name="x")
  assert scores == pytest.approx(classifier([TEXTS[1], "harm the bake"]).tolist())
  assert all(isinstance(score, float) for score in scores)


def test_thresholds_by_name_or_number(classifier):
  assert classifier.threshold("fpr=1%") == 0.4
  assert classifier.threshold("0.25") == classifier.threshold(0.25) == 0.25
  with pytest.raises(UserError, match=r"no such threshold; .*one of fpr=1%$"):
    classifier.threshold("fpr=7%")
  with pytest.raises(UserError, match=r"choose it with .*thresholds --aim=best_f1;"):
    classifier.threshold("best_f1")
  for number in ("1.5", "-0.1", "nan"):
    with pytest.raises(UserError, match=f"={number}: a number must be from 0 to 1$"):
      classifier.threshold(number)


def test_a_folder_that_is_neither_a_run_nor_an_export(tmp_path):
  with pytest.raises(UserError, match="neither a run"):
    SafetyClassifier.load(tmp_path)


@pytest.mark.parametrize("count", [1, 3])
def test_warmup_compiles_what_requests_need(model, count):
  classifier = SafetyClassifier.load(model)
  compiled = classifier._score.eval_step._cache_size
  assert compiled() == 0
  classifier.warmup(count)
  before = compiled()
  assert before >= 1
  for words in (1, 10, 60, 1000):
    classifier(["calm " * words] * count)
  assert compiled() == before
  with pytest.raises(ValueError, match="at least 1"):
    classifier.warmup(0)
