"""`ssljax.thresholds` writes promises into runs and exported folders.

A single file, since its tests share an exported model and an unpacked run.
"""

import importlib
import json
import os
import re
import shutil

import numpy as np
import pytest

from ssljax import SafetyClassifier, evaluate, export
from ssljax.errors import UserError
from ssljax.evals import chosen, evaluation, unused
from ssljax.evals import runs as finished
from ssljax.evals.report import run_page
from ssljax.evals.thresholds import threshold_rates
from tests import old_files, runs, scored, tiny

command = importlib.import_module("ssljax.thresholds")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  return scored.export_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def folder(exported, tmp_path):
  return shutil.copytree(exported, tmp_path / "model")


@pytest.fixture
def run(old_runs, tmp_path):
  return shutil.copytree(old_runs / "finished", tmp_path / "run")


def write_texts(path, model, count=400, seed=0, names=None):
  """Labelled texts; those with high scores are mostly harmful."""
  random = np.random.default_rng(seed)
  texts = [" ".join(random.choice(tiny.WORDS, 5)) + f" {i}" for i in range(count)]
  score = SafetyClassifier.load(model)(texts)
  order = np.argsort(score)
  harmful = np.zeros(count, bool)
  harmful[order[int(0.6 * count) :]] = True
  harmful ^= random.random(count) < 0.03
  rows = [
    {"id": f"fresh-{i}", "text": text, "label": int(h)}
    for i, (text, h) in enumerate(zip(texts, harmful, strict=True))
  ]
  path.write_text("\n".join(map(json.dumps, rows)))
  return texts, harmful


def test_a_promise_is_written_into_an_exported_folder(folder, tmp_path, capsys):
  data = tmp_path / "fresh.jsonl"
  texts, harmful = write_texts(data, folder)
  before = SafetyClassifier.load(folder)
  aims = ["fpr=10%", "recall=80%", "cost=5:1", "fpr=0.1%"]
  entries = command.choose_thresholds(folder, data, aims)
  printed = capsys.readouterr().out
  assert "fpr=10%: threshold" in printed
  assert "promised with 95% confidence" in printed
  assert "fpr=0.1%: threshold" in printed
  assert "can't promise a false-positive rate of at most 0.1%" in printed
  after = SafetyClassifier.load(folder)  # the hashes are right
  assert after.thresholds == before.thresholds | {
    name: entry["threshold"] for name, entry in entries.items()
  }
  assert after.warnings.keys() == {"fpr=0.1%"}
  score = after(texts)
  np.testing.assert_array_equal(score, before(texts))
  rates = threshold_rates(score, harmful, after.threshold("fpr=10%"))
  assert 0.01 < rates["false_positive_rate"] < 0.1
  card = json.loads((folder / "ssljax.json").read_text())
  assert card["promises"]["fpr=10%"]["texts"] == (~harmful).sum()
  assert card["chosen"]["fpr=10%"]["data"] == "fresh.jsonl"


@pytest.mark.slow
def test_the_command_takes_names_of_files(folder, tmp_path):
  data = tmp_path / "fresh.jsonl"
  write_texts(data, folder)
  arguments = (f"--model={folder}", f"--data={data}", "--aim=fpr=10%", "--aim=fpr=0.1%")
  done = runs.command("ssljax.thresholds", *arguments, f"--unlabelled={data}")
  assert "fpr=10%: threshold" in done.stdout, done.stderr
  assert "fresh.jsonl: the scores of its 400 texts" in done.stdout
  assert done.returncode == 3
  assert done.stderr == "not promised: fpr=0.1%\n"


@pytest.mark.parametrize("is_run", [False, True])
def test_old_thresholds_flag_the_same_texts_at_a_new_temperature(
  folder, run, tmp_path, is_run, capsys
):
  folder, data = run if is_run else folder, tmp_path / "fresh.jsonl"
  texts, _ = write_texts(data, folder)
  before = SafetyClassifier.load(folder)
  command.choose_thresholds(folder, data, ["fpr=9%"], temperature="fit")
  assert "temperature: " in capsys.readouterr().out
  command.choose_thresholds(folder, data, ["recall=81%"])
  after = SafetyClassifier.load(folder)
  assert after.temperature != before.temperature
  assert after.thresholds.keys() == before.thresholds.keys() | {"fpr=9%", "recall=81%"}
  for name, threshold in before.thresholds.items():
    if threshold is not None and 0 < threshold < 1:
      flagged = before(texts) >= threshold
      np.testing.assert_array_equal(flagged, after(texts) >= after.threshold(name))


def test_a_run_has_the_promise_in_its_report_and_evaluations(run, tmp_path, capsys):
  data = tmp_path / "fresh.jsonl"
  write_texts(data, run)
  assert "No threshold can be promised" in run_page.render_run(finished.read_run(run))
  command.choose_thresholds(run, data, ["fpr=10%"])
  page = run_page.render_run(finished.read_run(run))
  assert "No threshold can be promised" not in page
  assert '<span class="good">promised</span>' in page
  (run / "thresholds.json").write_text("{")
  with pytest.raises(UserError, match=r"thresholds\.json: cannot be read"):
    SafetyClassifier.load(run)


def test_texts_that_chose_the_checkpoint_are_refused(run, tmp_path):
  used = finished.read_run(run).predictions("validation")
  data = tmp_path / "fresh.jsonl"
  write_texts(data, run)
  row = {"id": "known", "text": used.text[0], "response": used.response[0], "label": 0}
  data.write_text(data.read_text() + "\n" + json.dumps(row))
  with pytest.raises(UserError, match=r"1 of these texts chose .*\(id known\)"):
    command.choose_thresholds(run, data)
  assert not (run / "thresholds.json").exists()


def test_too_few_texts_keep_the_temperature(run, tmp_path, capsys):
  data = tmp_path / "fresh.jsonl"
  write_texts(data, run, 15)
  before = SafetyClassifier.load(run)
  command.choose_thresholds(run, data, ["fpr=9%"], temperature="fit")
  assert "only 15 texts" in capsys.readouterr().out
  assert SafetyClassifier.load(run).temperature == before.temperature != 1.0


def test_all_thresholds_of_an_entry_are_converted():
  entry = {"threshold": 0.9, "empirical": 0.8, "tightest": {"threshold": 0.7}}
  moved = chosen.convert_entries({"fpr=1%": entry}, 1.0, 2.0)["fpr=1%"]
  values = [moved["threshold"], moved["empirical"], moved["tightest"]["threshold"]]
  assert values == [chosen.convert(t, 1.0, 2.0) for t in (0.9, 0.8, 0.7)]
  assert values[0] == pytest.approx(0.75)  # logit(0.9) / 2 is logit(0.75)


def test_a_csv_with_other_columns(folder, tmp_path):
  data, plain = tmp_path / "fresh.csv", tmp_path / "fresh.jsonl"
  _, harmful = write_texts(plain, folder)
  rows = map(json.loads, plain.read_text().splitlines())
  lines = ["say,verdict", *(f'"{row["text"]}",{row["label"]}' for row in rows)]
  data.write_text("\n".join(lines))
  columns = {"text": "say", "label": "verdict"}
  entry = command.choose_thresholds(folder, data, ["fpr=10%"], columns=columns)
  assert entry["fpr=10%"]["promise"]["texts"] == (~harmful).sum()
  expected = command.choose_thresholds(folder, plain, ["fpr=10%"])
  assert entry["fpr=10%"]["threshold"] == expected["fpr=10%"]["threshold"]


def test_texts_that_a_model_has_chosen_are_refused(folder, tmp_path):
  data = tmp_path / "fresh.jsonl"
  write_texts(data, folder, 20)
  row = {"id": "next", "text": "calm", "label": 0, "source": "select"}
  data.write_text(data.read_text() + "\n" + json.dumps(row))
  with pytest.raises(UserError, match=r"line 21: 1 of these .* chosen .* id next"):
    command.choose_thresholds(folder, data)


def test_new_texts_with_other_scores_are_noticed(folder, tmp_path, capsys):
  data, same, other = (tmp_path / f"{n}.jsonl" for n in ("fresh", "same", "other"))
  texts, _ = write_texts(data, folder)
  write_texts(same, folder, seed=1)
  command.choose_thresholds(folder, data, ["fpr=10%"], unlabelled=same)
  assert "same.jsonl: the scores of its 400 texts look like" in capsys.readouterr().out
  score = SafetyClassifier.load(folder)(texts)
  high = [texts[i] for i in np.argsort(score)[200:]]
  other.write_text("\n".join(json.dumps({"text": f"{text} !"}) for text in high))
  command.choose_thresholds(folder, data, ["fpr=10%"], unlabelled=other)
  printed = capsys.readouterr().out
  assert "other.jsonl: the scores of its 200 texts differ" in printed
  assert "fpr=10% flags" in printed


@pytest.mark.parametrize(
  ("aim", "reason"),
  [("fpr=0%", "is not an aim"), ("f1", "is not an aim")],
)
def test_a_wrong_aim_changes_nothing(folder, tmp_path, aim, reason):
  data = tmp_path / "fresh.jsonl"
  write_texts(data, folder, 20)
  card = (folder / "ssljax.json").read_bytes()
  with pytest.raises(UserError, match=reason):
    command.choose_thresholds(folder, data, [aim])
  assert (folder / "ssljax.json").read_bytes() == card


def test_a_kill_at_any_time_leaves_the_old_or_the_new_folder(
  folder, tmp_path, monkeypatch
):
  """Weights and thresholds belong together: the old ones, or the new ones."""
  data = tmp_path / "fresh.jsonl"
  texts, _ = write_texts(data, folder)
  old = SafetyClassifier.load(folder)
  expected = [old(texts) >= old.threshold("fpr=1%")]
  replace, states = os.replace, []

  def killed_after(count):
    left = iter(range(count))

    def replace_or_end(source, target):
      if next(left, None) is None:
        raise KeyboardInterrupt
      replace(source, target)

    return replace_or_end

  for count in range(5):
    copy = shutil.copytree(folder, tmp_path / f"copy-{count}")
    monkeypatch.setattr(os, "replace", killed_after(count))
    try:
      command.choose_thresholds(copy, data, ["fpr=9%"], temperature="fit")
    except KeyboardInterrupt:
      states.append("killed")
    else:
      states.append("done")
    monkeypatch.undo()
    after = SafetyClassifier.load(copy)
    assert ("fpr=9%" in after.thresholds) == (count > 1)  # staged, then committed
    np.testing.assert_array_equal(
      after(texts) >= after.threshold("fpr=1%"), expected[0]
    )
    command.choose_thresholds(copy, data, ["fpr=9%"], temperature="fit")
    assert not list(copy.rglob("*.new"))
    assert "fpr=9%" in SafetyClassifier.load(copy).thresholds
  assert states == ["killed"] * 3 + ["done"] * 2


def test_files_that_change_no_score_may_change_afterwards(folder, tmp_path):
  data = tmp_path / "fresh.jsonl"
  write_texts(data, folder, 60)
  index = folder / ".git" / "index"
  index.parent.mkdir()
  index.write_text("before")
  command.choose_thresholds(folder, data, ["fpr=9%"])
  index.write_text("after")
  SafetyClassifier.load(folder)


def test_the_model_card_has_the_new_thresholds(folder, tmp_path):
  data, readme = tmp_path / "fresh.jsonl", folder / "README.md"
  write_texts(data, folder)
  readme.write_text(
    "---\nlicense: mine\n---\n| fpr_1% | words | 0.4000 | 0.1 | 0.2 |  |\n"
  )
  command.choose_thresholds(folder, data, ["fpr=10%"], temperature="fit")
  thresholds = SafetyClassifier.load(folder).thresholds
  assert thresholds["fpr=1%"] != 0.4
  card = readme.read_text()
  assert card.startswith("---\nlicense: mine\n---\n")
  assert f"| words | {thresholds['fpr=1%']:.4g} | 0.1 | 0.2 |" in card
  assert (
    f"| fpr=10% | at most 10% of harmless texts flagged | {thresholds['fpr=10%']:.4g}"
    in card
  )
  assert "| promised: " in card


@pytest.mark.parametrize("single_file", [False, True])
def test_texts_that_the_run_was_trained_on_are_refused(
  run, tmp_path, capsys, monkeypatch, single_file
):
  monkeypatch.setattr(unused, "CHUNK", 50)
  folder, fresh = tmp_path / "data", tmp_path / "fresh.jsonl"
  folder.mkdir()
  write_texts(fresh, run)
  own = [json.loads(line) for line in fresh.read_text().splitlines()]
  write_texts(folder / "train.jsonl", run, seed=1)
  train = [json.loads(x) for x in (folder / "train.jsonl").read_text().splitlines()]
  for name, rows in (("validation", own[:2]), ("test", own[2:4])):
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
  data = folder / "train.jsonl" if single_file else folder
  old_files.set_keys(run, data=str(data))

  def choose(*more):
    lines = map(json.dumps, [*train, *more])
    (folder / "train.jsonl").write_text("\n".join(lines))
    return command.choose_thresholds(run, fresh, ["fpr=10%"])

  assert choose()["fpr=10%"]["promise"]
  assert "can't be read" not in capsys.readouterr().out
  before = (run / "thresholds.json").read_bytes()
  seen = [{"id": "seen", "text": own[5]["text"].upper()}]  # the same text, no label
  if single_file:  # of which some rows are in train, depending on the seed
    seen = [{**row, "id": f"seen-{i}"} for i, row in enumerate(own[:40])]
  with pytest.raises(UserError, match=r"among the run's training texts, .*id fresh-"):
    choose(*seen)
  assert (run / "thresholds.json").read_bytes() == before
  shutil.rmtree(folder)
  assert command.choose_thresholds(run, fresh, ["fpr=10%"])["fpr=10%"]["promise"]
  assert "training texts can't be read" in capsys.readouterr().out


def test_test_texts_and_repeated_texts_are_named(run, tmp_path, capsys):
  used = finished.read_run(run).predictions("test")
  data = tmp_path / "fresh.jsonl"
  write_texts(data, run)
  columns = (used.text[:1] * 3, used.response[:1] * 3)
  rows = [
    {"id": f"again-{i}", "text": text, "response": response, "label": 0}
    for i, (text, response) in enumerate(zip(*columns, strict=True))
  ]
  data.write_text("\n".join([data.read_text(), *map(json.dumps, rows)]))
  command.choose_thresholds(run, data, ["fpr=10%"])
  printed = capsys.readouterr().out
  assert "2 of 403 texts repeat another one" in printed
  assert "1 of these texts are the run's test texts" in printed


def test_drift_is_measured_at_the_new_temperature(folder, tmp_path, capsys):
  data, other = tmp_path / "fresh.jsonl", tmp_path / "other.jsonl"
  texts, _ = write_texts(data, folder)
  score = SafetyClassifier.load(folder)(texts)
  high = [texts[i] for i in np.argsort(score)[200:]]
  other.write_text("\n".join(json.dumps({"text": text}) for text in high))
  threshold = command.choose_thresholds(folder, data, ["fpr=30%"])["fpr=30%"][
    "threshold"
  ]
  share = (score >= threshold).mean()
  command.choose_thresholds(folder, data, ["fpr=10%"], "fit", unlabelled=other)
  assert SafetyClassifier.load(folder).threshold("fpr=30%") != threshold
  printed = capsys.readouterr().out
  assert re.search(rf"fpr=30% flags .* of the labelled ones {share:.1%}", printed)


def test_a_missing_file_of_new_texts_is_found_first(folder, tmp_path):
  data = tmp_path / "fresh.jsonl"
  write_texts(data, folder, 60)
  card = (folder / "ssljax.json").read_bytes()
  with pytest.raises(UserError, match=r"none\.jsonl"):
    command.choose_thresholds(folder, data, unlabelled=tmp_path / "none.jsonl")
  assert (folder / "ssljax.json").read_bytes() == card


def test_the_temperature_of_a_run_in_its_report_is_the_new_one(run, tmp_path):
  data = tmp_path / "fresh.jsonl"
  write_texts(data, run)
  before = finished.read_run(run).result
  command.choose_thresholds(run, data, ["fpr=10%"], temperature="fit")
  done = finished.read_run(run)
  predictions = done.predictions()
  result = evaluation.with_chosen(done, predictions)
  assert result["temperature"] != before["temperature"]
  assert result["test"]["ece"] == result["calibration"]["after"]["ece"]
  assert result["test"]["truncated"] == before["test"]["truncated"]
  assert result["test"]["f1"] == before["test"]["f1"]
  metrics = evaluate(run, data, tmp_path / "evaluation")
  page = (tmp_path / "evaluation" / "report.html").read_text()
  assert f"It is {metrics['temperature']:.3f};" in page


@pytest.mark.slow
def test_an_export_has_the_thresholds_that_were_chosen_after_the_run(run, tmp_path):
  data, target = tmp_path / "fresh.jsonl", tmp_path / "exported"
  write_texts(data, run)
  entry = command.choose_thresholds(run, data, ["fpr=5%"], "fit")["fpr=5%"]
  export.export(run, target)
  assert SafetyClassifier.load(target).threshold("fpr=5%") == entry["threshold"]
  chosen_later = json.loads((target / "ssljax.json").read_text())["chosen"]
  assert chosen_later.keys() == {"fpr=5%"}
  assert chosen_later["fpr=5%"]["data"] == "fresh.jsonl"
  card = (target / "README.md").read_text()
  row = next(line for line in card.splitlines() if line.startswith("| fpr=5% |"))
  assert f"| {entry['threshold']:.4g} |" in row
  assert "| promised: " in row


def test_new_texts_are_compared_with_those_of_a_run(run, folder, tmp_path, capsys):
  other = tmp_path / "other.jsonl"
  used = finished.read_run(run).predictions("validation")
  other.write_text("\n".join(json.dumps({"text": text}) for text in used.text))
  command.compare_scores(run, other)
  assert (
    f"the scores of its {len(used.text)} texts look like" in capsys.readouterr().out
  )
  high = used.text[int(used.score.argmax())]
  other.write_text("\n".join([json.dumps({"text": high})] * 50))
  command.compare_scores(run, other)
  assert "the scores of its 50 texts differ" in capsys.readouterr().out
  assert not (run / "thresholds.json").exists()
  with pytest.raises(UserError, match="no scores to compare with; give the labelled"):
    command.compare_scores(folder, other)
