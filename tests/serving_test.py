"""A trained classifier in use: runs and exported folders give the same scores.

One file with the command's tests, which share the runs that are trained for it.
"""

import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax import predict
from ssljax.errors import RunError, UserError
from ssljax.evals import runs as finished
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
      code, printed = runs.run(method, workdir, f"--config.head={head}", place=place)
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
  ("method", "head"), [("multimatch", "mlp"), ("supervised", "hf")]
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
  with pytest.raises(UserError, match=str(folder)):
    load(folder)


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


def test_threads_and_orders_and_companions_change_no_score(exported):
  classifier = load(exported())
  texts = [f"calm {'bread ' * (i % 9)}harm {i}" for i in range(40)]
  wanted = classifier(texts)
  alone = np.concatenate([classifier([text]) for text in texts])
  np.testing.assert_allclose(alone, wanted, atol=1e-6)
  np.testing.assert_allclose(classifier(texts[::-1])[::-1], wanted, atol=1e-6)
  found = {}

  def work(k):
    found[k] = classifier(texts[k::4])

  threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  for k in range(4):
    np.testing.assert_allclose(found[k], wanted[k::4], atol=1e-6)


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


# The command.


def command(place, *given, text=None):
  return subprocess.run(
    [sys.executable, "-m", "ssljax.predict", *map(str, given)],
    cwd=ROOT,
    env=runs.environment(place),
    input=text,
    capture_output=True,
    text=True,
  )


def rows(path):
  if path.suffix == ".parquet":
    return pq.read_table(path).to_pylist()
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def texts(place):
  some = [
    {"id": i, "text": f"calm {'harm ' * (i % 5)}{i}", "response": None, "n": [i]}
    for i in range(50)
  ]
  some[7]["text"], some[8]["text"] = "  ", None
  some[9]["response"] = "steal"
  (place / "texts.jsonl").write_text("\n".join(map(json.dumps, some)))
  pq.write_table(pa.Table.from_pylist(some), place / "texts.parquet", row_group_size=9)
  return some


@pytest.fixture(scope="module")
def classifier(exported):
  return load(exported())


@pytest.mark.parametrize("source", ["jsonl", "parquet"])
@pytest.mark.parametrize("target", ["jsonl", "parquet"])
def test_rows_come_out_as_they_went_in_with_their_score(
  place, classifier, texts, source, target, capsys
):
  output = place / f"{source}-to.{target}"
  said = predict.predict(classifier, f"{place}/texts.{source}", str(output), "0.5")
  found = rows(output)
  assert [{k: row[k] for k in texts[0]} for row in found] == texts
  assert found[7]["score"] is found[7]["flagged"] is found[8]["label_name"] is None
  full = [i for i in range(50) if i not in (7, 8)]
  wanted = classifier([(texts[i]["text"], texts[i]["response"]) for i in full])
  np.testing.assert_allclose([found[i]["score"] for i in full], wanted, atol=1e-6)
  for i in full:
    assert found[i]["flagged"] == (found[i]["score"] >= 0.5)
    assert found[i]["label_name"] == str(int(found[i]["flagged"]))
  assert said.startswith(f"50 rows scored, {sum(wanted >= 0.5)} flagged at 0.5000")
  assert "2 without a text" in said
  assert "row/s" in capsys.readouterr().err
  assert not list(place.glob(f".{output.name}*"))


def test_columns_that_some_rows_lack_are_kept_and_names_may_be_large(
  classifier, tmp_path
):
  given = [{"text": "calm"}, {"text": "harm", "more": 1}, {"text": "a", "x": [2]}]
  (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, given)))
  output = tmp_path / "OUT.PARQUET"
  predict.predict(classifier, str(tmp_path / "in.jsonl"), str(output))
  found = pq.read_table(output).to_pylist()
  assert [row["more"] for row in found] == [None, 1, None]
  assert [row["x"] for row in found] == [None, None, [2]]


def test_values_without_a_common_type_are_one_line_and_json_takes_them(
  classifier, tmp_path
):
  (tmp_path / "in.jsonl").write_text(
    '{"text": "a", "x": 1}\n{"text": "b", "x": "one"}\n'
  )
  source = str(tmp_path / "in.jsonl")
  with pytest.raises(UserError, match=r"have no Parquet type .* ends in .jsonl"):
    predict.predict(classifier, source, str(tmp_path / "out.parquet"))
  predict.predict(classifier, source, str(tmp_path / "out.jsonl"))
  assert [row["x"] for row in rows(tmp_path / "out.jsonl")] == [1, "one"]
  day = pa.table({"text": ["a"], "day": pa.array([3], pa.timestamp("ns"))})
  pq.write_table(day, tmp_path / "in.parquet")
  output = tmp_path / "day.jsonl"
  predict.predict(classifier, str(tmp_path / "in.parquet"), str(output))
  assert rows(output)[0]["day"].startswith("1970-01-01")


def test_the_command_from_standard_input_to_standard_output(place, exported, texts):
  given = "\n".join(map(json.dumps, texts[:5])) + "\n\n"
  done = command(place, f"--model={exported()}", "--input=-", "--output=-", text=given)
  assert done.returncode == 0, done.stderr
  found = [json.loads(line) for line in done.stdout.splitlines()]
  assert [row["id"] for row in found] == [0, 1, 2, 3, 4]
  assert {"score", "flagged", "label_name"} <= set(found[0])
  assert done.stderr.startswith("5 rows scored")


KILLED = """
import os, sys
from ssljax import predict
predict.PIECE = 8
whole, calls = predict._put, []
def put(*given):
  whole(*given)
  calls.append(given[0].name)
  if len(calls) == 3:
    os.kill(os.getpid(), 9)
predict._put = put
from ssljax import cli
sys.argv[0] = "predict"
predict.define_flags()
cli.run(predict.main)
"""


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_killed_run_goes_on_and_another_command_begins_anew(
  place, exported, classifier, texts, kind, monkeypatch
):
  source, output = f"{place}/texts.{kind}", place / f"killed.{kind}"
  given = [f"--model={exported()}", f"--input={source}", f"--output={output}"]
  done = subprocess.run(
    [sys.executable, "-c", KILLED, *given], cwd=ROOT, env=runs.environment(place)
  )
  assert done.returncode == -9
  assert not output.exists()
  asked, whole = [], predict._put
  monkeypatch.setattr(predict, "PIECE", 8)
  monkeypatch.setattr(
    predict, "_put", lambda path, *more: asked.append(path.stem) or whole(path, *more)
  )
  predict.predict(classifier, source, str(output))
  assert asked == [f"0000000{i}" for i in (3, 4, 5, 6)]
  straight = place / f"straight.{kind}"
  predict.predict(classifier, source, str(straight))
  for a, b in zip(rows(output), rows(straight), strict=True):
    left, right = a.pop("score"), b.pop("score")
    assert left is right is None or left == pytest.approx(right, abs=1e-6)
    assert a == b
  # Other flags: nothing of old pieces is used.
  other = place / f"other.{kind}"
  parts = place / f".other.{kind}.parts"
  parts.mkdir()
  (parts / f"00000000.{kind}").write_text("of another command")
  (parts / "identity.json").write_text('{"model": "another"}')
  asked.clear()
  predict.predict(classifier, source, str(other), "0.9")
  assert len(asked) == 7
  assert len(rows(other)) == 50


@pytest.mark.parametrize(
  ("line", "more", "said"),
  [
    ('{"text": 3}', {}, "line 2: text: 3 should be a string"),
    ('{"prompt": "x"}', {}, r"line 2: text: no such column \(others: prompt\)"),
    ("[1]", {}, "line 2"),
    ("{", {}, "line 2"),
    ('{"text": "x"}', {"threshold": "fpr_2%"}, "no such threshold"),
    ('{"text": "x"}', {"threshold": "7"}, "between 0 and 1"),
    ('{"text": "x"}', {"target": "there.jsonl"}, "exists"),
    ('{"text": "x"}', {"target": "out.csv"}, "ends in .jsonl or .parquet"),
    ('{"text": "x"}', {"target": "out.jsonl.gz"}, "ends in .jsonl or .parquet"),
    ('{"text": "x"}', {"source": "absent.jsonl"}, "no such file"),
  ],
)
def test_a_mistake_is_named_and_nothing_is_written(
  classifier, tmp_path, line, more, said
):
  (tmp_path / "in.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
  (tmp_path / "there.jsonl").write_text("mine")
  given = {"source": "in.jsonl", "target": "out.jsonl", "threshold": ""} | more
  paths = (str(tmp_path / given[name]) for name in ("source", "target"))
  with pytest.raises(UserError, match=said):
    predict.predict(classifier, *paths, given["threshold"])
  assert not (tmp_path / "out.jsonl").exists()
  assert (tmp_path / "there.jsonl").read_text() == "mine"


def test_importing_the_package_imports_no_jax():
  code = "import sys, ssljax; assert 'jax' not in sys.modules; ssljax.SafetyClassifier"
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ}, check=True)
