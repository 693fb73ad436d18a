"""A trained classifier in use: runs and exported folders give the same scores."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from ssljax import predict
from ssljax.errors import RunError, UserError
from ssljax.evals import runs as finished
from ssljax.inference import classifier as serving
from ssljax.inference.load import load as trained_load
from ssljax.models import resolve
from ssljax.training import pytrees
from tests import runs
from tests.runs import ROOT

TEXTS = ["calm bread", ("harm the bake", "steal"), "kind " * 60, ("a", None), "hurt"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return runs.folder(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="module")
def trained(place):
  """Finished runs by (method, head)."""
  done = {}

  def of(method="multimatch", head="mlp"):
    if (method, head) not in done:
      workdir = place / f"{method}-{head}"
      name, _, wrapper = method.partition("+")
      more = [f"--config.head={head}", f"--config.wrapper.name={wrapper}"]
      code, printed = runs.run(name, workdir, *more, place=place)
      assert code == 0, printed
      done[method, head] = workdir
    return done[method, head]

  return of


@pytest.fixture(scope="module")
def exported(place, trained):
  from ssljax.export import export

  done = {}

  def of(method="multimatch", head="mlp"):
    if (method, head) not in done:
      done[method, head] = place / f"exported-{method}-{head}"
      export(trained(method, head), done[method, head])
    return done[method, head]

  return of


def load(folder):
  from ssljax import SafetyClassifier

  return SafetyClassifier.load(folder)


@pytest.mark.parametrize(
  ("method", "head"),
  [
    ("multimatch", "mlp"),
    ("supervised", "hf"),
    ("fixmatch+abc", "mlp"),
    ("fixmatch+abc", "hf"),
  ],
)
def test_the_exported_folder_scores_as_the_run(trained, exported, method, head):
  run, folder = load(trained(method, head)), load(exported(method, head))
  np.testing.assert_allclose(run(TEXTS), folder(TEXTS), atol=1e-6)
  assert run.labels == folder.labels
  assert run.thresholds == folder.thresholds
  assert run.temperature == folder.temperature
  said = finished.predictions(finished.read(trained(method, head)))
  texts = list(zip(said.text, said.response, strict=True))
  np.testing.assert_allclose(folder(texts), said.score, atol=1e-6)
  assert folder.logits(TEXTS).truncated.tolist() == [False, False, True, False, False]


LONG = " ".join(["harm", *["kind"] * 40, "bread", "calm"])  # the ends differ


def test_torch_libraries_read_and_cut_texts_as_we_do(exported):
  pytest.importorskip("torch", reason="pip install torch")
  library = pytest.importorskip(
    "sentence_transformers", reason="pip install sentence-transformers"
  )
  import transformers

  texts = ["calm bread", LONG, ("harm the bake", "steal")]
  folder = exported()
  found = library.SentenceTransformer(str(folder), device="cpu").encode(texts)
  np.testing.assert_allclose(found, load(folder).logits(texts).logits, atol=1e-4)

  folder = exported("supervised", "hf")
  pipeline = transformers.pipeline("text-classification", model=str(folder))
  texts = [{"text": "calm bread"}, {"text": LONG}, {"text": "harm", "text_pair": "a"}]
  said = pipeline(texts, top_k=None, function_to_apply="none", truncation=True)
  found = [[one[label] for label in ("0", "1")] for one in map(by_label, said)]
  texts = ["calm bread", LONG, ("harm", "a")]
  np.testing.assert_allclose(found, load(folder).logits(texts).logits, atol=1e-4)
  assert load(folder).logits([LONG, LONG[:-4]]).truncated.all()


def by_label(scores):
  return {one["label"]: one["score"] for one in scores}


def test_export_never_writes_over_anything_and_needs_a_finished_run(place, trained):
  from ssljax.export import export

  (place / "there").mkdir()
  with pytest.raises(UserError, match="exists; name a new folder"):
    export(trained(), place / "there")
  unfinished = place / "unfinished"
  shutil.copytree(trained(), unfinished)
  (unfinished / "result.json").unlink()
  with pytest.raises(UserError, match="cannot be read as a finished run"):
    export(unfinished, place / "new")
  assert not (place / "new").exists()


def test_an_unfinished_run_scores_but_says_that_it_is_not_calibrated(
  place, trained, capsys
):
  unfinished = place / "going-on"
  shutil.copytree(trained(), unfinished)
  (unfinished / "result.json").unlink()
  classifier = load(unfinished)
  assert "scores are not calibrated" in capsys.readouterr().err
  assert (classifier.temperature, classifier.thresholds) == (1.0, {})
  assert load(trained()).thresholds
  assert not capsys.readouterr().err


def test_an_export_is_held_against_the_run_in_any_dtype(place, trained, monkeypatch):
  from ssljax import export

  half = place / "half"
  shutil.copytree(trained(), half)
  config = json.loads((half / "config.json").read_text())
  (half / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
  export.export(half, place / "exported-half")
  assert (place / "exported-half" / "README.md").exists()
  monkeypatch.setattr(export, "EXACT", 0.0)
  with pytest.raises(RunError, match="its logits differ"):
    export.export(half, place / "exported-half-again")


@pytest.mark.parametrize(
  ("broken", "text"),
  [
    ("ssljax.json", "{"),
    ("ssljax.json", "[]"),
    ("config.json", None),
    ("model.safetensors", "x"),
    ("model.safetensors", None),
    ("vocab.txt", None),
    ("2_Dense/model.safetensors", "x"),
    ("3_Dense/model.safetensors", None),
  ],
)
def test_a_broken_exported_folder_is_one_line(exported, tmp_path, broken, text):
  folder = tmp_path / "broken"
  shutil.copytree(exported(), folder)
  (folder / broken).unlink()
  if text is not None:
    (folder / broken).write_text(text)
  with pytest.raises(UserError, match=f"^{folder}: .*; export it again$") as caught:
    load(folder)
  assert "fetch" not in str(caught.value)


def test_the_hash_beside_a_step_is_of_the_parameters_of_that_step(trained, exported):
  for method, head in (("multimatch", "mlp"), ("supervised", "hf")):
    workdir = trained(method, head)
    config = json.loads((workdir / "config.json").read_text())
    step, params, _, _ = trained_load(workdir, config, resolve(config["encoder"]))
    card = json.loads((exported(method, head) / "ssljax.json").read_text())
    assert (card["step"], card["params_sha256"]) == (step, pytrees.sha256(params))


def test_an_export_that_gives_other_logits_is_none(place, trained, monkeypatch):
  from ssljax import export

  whole = export._write_dense

  def bent(params, *more):
    dense = params["dense"]
    whole({**params, "dense": {**dense, "bias": dense["bias"] + 1}}, *more)

  monkeypatch.setattr(export, "_write_dense", bent)
  with pytest.raises(RunError, match="its logits differ"):
    export.export(trained(), place / "bent")
  assert not list(place.glob("*bent*"))


def test_orders_and_companions_change_no_score(exported):
  classifier = load(exported())
  texts = [f"calm {'bread ' * (i % 9)}harm {i}" for i in range(40)]
  wanted = classifier(texts)
  alone = np.concatenate([classifier([text]) for text in texts])
  np.testing.assert_allclose(alone, wanted, atol=1e-6)
  np.testing.assert_allclose(classifier(texts[::-1])[::-1], wanted, atol=1e-6)


def test_threads_get_their_own_scores_and_the_step_runs_once_at_a_time(
  exported, monkeypatch
):
  classifier = load(exported())
  texts = [f"calm {'bread ' * (i % 9)}harm {i}" for i in range(40)]
  wanted = classifier(texts)
  step, inside, most, found = classifier._step, [], [], {}

  def slow(*given):
    inside.append(None)
    most.append(len(inside))
    time.sleep(0.05)  # lets the others come in, if they may
    inside.pop()
    return step(*given)

  monkeypatch.setattr(classifier, "_step", slow)
  start = threading.Barrier(4)

  def work(k):
    start.wait()
    found[k] = classifier(texts[k::4])

  threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(most) >= 4
  assert max(most) == 1
  for k in range(4):
    np.testing.assert_allclose(found[k], wanted[k::4], atol=1e-6)


def test_half_a_surrogate_pair_is_scored_as_the_replacement_character(
  exported, monkeypatch
):
  classifier = load(exported())
  encode, seen = serving.tokenize.encode, []

  def seeing(tokenizer, first, second, longest):
    seen.append((*first, *second))
    return encode(tokenizer, first, second, longest)

  monkeypatch.setattr(serving.tokenize, "encode", seeing)
  classifier(["harm \ud83d", "\ude00 calm", ("\ud83d\U0001f600", "\ud83d\ud83d x")])
  assert seen == [
    ("harm \ufffd", "\ufffd calm", "\ufffd\U0001f600", None, None, "\ufffd\ufffd x")
  ]


BLANK = ["", " \n\t\u3000", ("", None), ("", "steal"), ("  ", "")]


def test_a_text_without_content_has_no_score(classifier):
  texts = ["calm bread", *BLANK, ("harm", ""), "kind " * 60]
  full = [0, 6, 7]
  scores, found = classifier(texts), classifier.logits(texts)
  wanted = [True, *[False] * len(BLANK), True, True]
  assert np.isfinite(scores).tolist() == wanted
  assert np.isfinite(found.logits).all(1).tolist() == wanted
  assert np.isfinite(classifier.probabilities(texts)).all(1).tolist() == wanted
  assert found.truncated.tolist() == [False] * 7 + [True]
  np.testing.assert_allclose(scores[full], classifier([texts[i] for i in full]))
  assert np.isnan(classifier(BLANK)).all()  # and nothing is left to score
  assert not (scores[1:6] >= 0).any()  # no threshold flags them
  turn = {"role": "user", "content": " "}
  assert classifier.moderate([[turn]]) == [0.0]


@pytest.mark.parametrize("texts", [BLANK, ["", "calm", None], ["harm", "", "steal"]])
def test_predict_and_the_classifier_leave_out_the_same_texts(
  classifier, tmp_path, texts
):
  pairs = [text if isinstance(text, tuple) else (text, None) for text in texts]
  found = predict.Scorer(classifier, "")(pairs)
  scores = classifier([text or "" for text in texts])
  assert [value is None for value in found.score] == np.isnan(scores).tolist()


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
def test_what_is_no_text_is_named_with_its_place(classifier, wrong, shown):
  said = rf"^texts\[1\]: {shown}.* give a text, or a pair of prompt and response$"
  for call in (classifier, classifier.logits, classifier.probabilities):
    with pytest.raises(TypeError, match=said):
      call(["calm", wrong])


def test_small_things(exported, place):
  classifier = load(exported())
  assert classifier([]).shape == (0,)
  with pytest.raises(TypeError, match="a list of texts"):
    classifier("one text")
  np.testing.assert_allclose(
    classifier.probabilities(TEXTS)[:, 1], classifier(TEXTS), atol=1e-12
  )
  turns = [
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "no"},
    {"role": "user", "content": "harm the bake"},
    {"role": "assistant", "content": "steal"},
  ]
  found = classifier.moderate([turns, turns[:3]], model_name="x")
  assert found == pytest.approx(classifier([TEXTS[1], "harm the bake"]).tolist())
  assert all(isinstance(value, float) for value in found)
  assert classifier.threshold("0.25") == 0.25
  with pytest.raises(UserError, match=r"no such threshold; .*best_f1"):
    classifier.threshold("fpr_7%")
  with pytest.raises(UserError, match="between 0 and 1"):
    classifier.threshold("1.5")
  with pytest.raises(UserError, match="neither a run"):
    load(place)


def test_importing_the_package_imports_no_jax():
  code = "import sys, ssljax; assert 'jax' not in sys.modules; ssljax.SafetyClassifier"
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ}, check=True)
