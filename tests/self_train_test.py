"""Self-training as a command: its files, stopping and continuing, and its mistakes."""

import importlib
import json
import shutil
import signal
import time

import pytest

import ssljax
from ssljax.errors import UserError
from tests import runs
from tests.runs import result

self_train = importlib.import_module("ssljax.self_train")

slow = pytest.mark.slow
SHORT = ("--config.steps=12", "--config.eval_every=4", "--config.checkpoint_every=2")
STUDENT = (
  *("--config.method.view=strong", "--generations=3", "--per_class=30"),
  # With these, the first teachers predict both classes after so few steps.
  *("--config.order=random", "--config.dropout_bits=prng", "--config.unroll=1"),
  "--config.eval_every=12",  # the last step, which predicts both on any processor
)
CREST = (
  *("--draw=crest", "--alpha=1", "--generations=2", "--config.labels=32"),
  *("--config.labelled_imbalance=2", "--config.learning_rate=0.01"),
  *("--config.steps=24", "--config.eval_every=8", "--config.unlabelled_ratio=1"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  return runs.folder(tmp_path_factory.mktemp("generations"))


def start(place, workdir, *more, config="supervised"):
  return runs.Command(
    "ssljax.self_train",
    *runs.arguments(place, config, workdir, *SHORT, *more),
    env=runs.environment(place),
    merge=True,
  )


def run(place, workdir, *more, config="supervised"):
  process = start(place, workdir, *more, config=config)
  printed, _ = process.communicate()
  return process.returncode, printed


@pytest.fixture(scope="module")
def student(place):
  """Folder of three generations of noisy student, and what the command printed."""
  code, printed = run(place, place / "student", *STUDENT)
  assert code == 0, printed
  return place / "student", printed


def read_lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def read_config(folder):
  return json.loads((folder / "config.json").read_text())


@slow
def test_each_generation_is_a_run_and_later_ones_have_more_labels(place, student):
  workdir, printed = student
  summary = json.loads((workdir / self_train.SUMMARY).read_text())
  assert [g["generation"] for g in summary["generations"]] == [0, 1, 2]
  ids = {
    name: {row["id"] for row in read_lines(place / "data" / f"{name}.jsonl")}
    for name in ("train", "val", "test")
  }
  for number, generation in enumerate(summary["generations"]):
    folder = workdir / f"generation-{number}"
    config, metrics = read_config(folder), result(folder)
    assert generation["params_sha256"] == metrics["params_sha256"]
    assert generation["test"]["f1"] == metrics["test"]["f1"]
    assert config["labels"] == metrics["labels"] == 16
    steps = [config[key] for key in ("steps", "warmup", "eval_every")]
    assert steps == [12, 2, 12]  # the warm-up is a pass over the true labels
    sizes = config["resolved"]["sizes"]
    if number == 0:
      assert config["pseudo_labels"] == ""
      assert (sizes["labelled"], sizes["labelled_counts"]) == (16, [8, 8])
      continue
    assert config["pseudo_labels"] == str(workdir / f"noisy_student-{number}.jsonl")
    assert (sizes["labelled"], sizes["labelled_counts"]) == (16 + 60, [38, 38])
    rows = read_lines(workdir / f"noisy_student-{number}.jsonl")
    assert len(rows) == 104  # the pool: no labelled text is in it
    assert {row["id"] for row in rows} < ids["train"]
    assert sum(row["copies"] for row in rows) == 60
    drawn = generation["drawn"]
    assert {of["labels"] for of in drawn.values()} == {30}
    true = {row["id"]: row["label"] for row in read_lines(place / "data/train.jsonl")}
    right = sum(row["copies"] * (true[row["id"]] == row["label"]) for row in rows)
    assert generation["purity"] == pytest.approx(right / 60)
  assert (workdir / "comparison.html").stat().st_size > 10_000
  assert f"3 runs: {workdir}/comparison.html" in printed
  assert printed.count("generation 1: ") == 1


@slow
def test_generation_0_is_an_ordinary_run_of_the_config(place, student):
  workdir = place / "ordinary"
  more = [*SHORT, *STUDENT[:1], *STUDENT[3:]]
  code, printed = runs.run("supervised", workdir, *more, place=place)
  assert code == 0, printed
  ordinary, first = result(workdir), result(student[0] / "generation-0")
  assert ordinary["state_sha256"] == first["state_sha256"]


@slow
def test_a_finished_self_training_says_so_and_can_be_extended(place, student):
  workdir, _ = student
  before = [result(workdir / f"generation-{n}") for n in range(3)]
  code, printed = run(place, workdir, *STUDENT)
  assert code == 0, printed
  assert printed.count("already holds this run, finished") == 3
  assert [result(workdir / f"generation-{n}") for n in range(3)] == before
  longer = shutil.copytree(workdir, place / "longer")
  code, printed = run(place, longer, *STUDENT, "--generations=4")
  assert code == 0, printed
  assert printed.count("already holds this run, finished") == 3
  assert (longer / "generation-3" / "result.json").exists()


@slow
def test_labels_of_a_teacher_that_is_gone_are_refused(place, student):
  workdir = shutil.copytree(student[0], place / "gone")
  saved = (workdir / "self_training.json").read_bytes()
  for number in range(3):
    shutil.rmtree(workdir / f"generation-{number}")
  code, printed = run(place, workdir, *STUDENT, "--config.learning_rate=0.004")
  assert code == 2
  assert "noisy_student-1.jsonl: its labels are of another generation 0" in printed
  assert (workdir / "self_training.json").read_bytes() == saved
  # Also if this command doesn't use the draw.
  (workdir / "noisy_student-1.jsonl").unlink()
  fewer = ["--config.learning_rate=0.004", "--generations=2"]
  code, printed = run(place, workdir, *STUDENT, *fewer)
  assert code == 2
  assert "noisy_student-2.jsonl: its labels are of another generation 1" in printed


@pytest.fixture
def config(place, monkeypatch):
  """The config of `student`."""
  monkeypatch.setenv("SSLJAX_CACHE", str(place.parent / "cache"))
  return ssljax.load_config(
    runs.ROOT / "configs" / "supervised.py",
    **{name: f"{place}/{name}" for name in ("data", "encoder")},
    labels=16, batch=8, steps=12, max_length=32, learning_rate=0.003,
    eval_every=12, checkpoint_every=2, log_every=5, method={"view": "strong"},
    order="random", dropout_bits="prng", unroll=1,
  )  # fmt: skip


@pytest.mark.parametrize(
  ("changes", "keywords", "message"),
  [
    ({}, {"alpha": 0.5}, "--alpha is not a setting of --draw=noisy_student, which has"),
    ({}, {"floor": 1.5}, "--floor=1.5: it must be 0 to 1"),
    ({}, {"per_class": 2.5}, "--per_class=2.5: it must be an integer"),
    ({}, {"generations": 1}, "--generations=1: give 2 or more"),
    ({}, {"draw": "crests"}, "--draw=crests: no such draw; did you mean 'crest'"),
    ({"distributed": True}, {}, "distributed=True is for python -m ssljax.main"),
    ({"pseudo_labels": "a.jsonl"}, {}, "self-training sets this key"),
    ({"data": "nowhere"}, {}, "nowhere: no such file or folder"),
  ],
)
def test_mistakes_in_arguments_leave_nothing(tmp_path, changes, keywords, message):
  keys = ssljax.load_config("supervised", data="data").to_dict() | changes
  with pytest.raises(UserError, match=message):
    self_train.run(keys, tmp_path / "new", **keywords)
  assert not list(tmp_path.iterdir())


@slow
@pytest.mark.parametrize(
  ("changes", "keywords", "message"),
  [
    ({}, {"floor": 0.9}, r"another draw \(floor: 0.3 in the folder, 0.9 now\)"),
    ({"learning_rate": 1.0}, {}, "learning_rate: 0.003 in the run, 1.0 now"),
    ({"seed": 1}, {}, "which of them are labelled, have changed"),
    ({"labels": 0}, {}, r"no unlabelled text to label \(--config.labels=0\)"),
  ],
)
@slow
def test_mistakes_are_named(config, student, changes, keywords, message):
  before = {p: p.stat().st_mtime_ns for p in student[0].rglob("*")}
  keys = config.to_dict() | changes
  with pytest.raises(UserError, match=message):
    self_train.run(keys, student[0], **{"per_class": 30, **keywords})
  after = {p: p.stat().st_mtime_ns for p in student[0].rglob("*")}
  assert after == before


@slow
def test_a_folder_with_something_else_is_refused(config, student):
  with pytest.raises(UserError, match="exists and holds no self-training"):
    self_train.run(config.to_dict(), student[0] / "generation-0")


@slow
def test_a_draw_that_takes_nothing_stops_with_one_line(place, student):
  workdir = place / "nothing"
  first = "generation-0"
  shutil.copytree(student[0] / first, workdir / first)
  code, printed = run(place, workdir, *STUDENT, "--generations=2", "--floor=1.0")
  assert code == 2
  assert "error: generation 1: the draw takes nothing from 104 texts" in printed
  assert not list(workdir.glob("*.jsonl"))
  # Generation 0 doesn't depend on the draw, so it is kept.
  code, printed = run(place, workdir, *STUDENT, "--generations=2")
  assert code == 0, printed
  assert printed.count("already holds this run, finished") == 1
  assert (workdir / "generation-1" / "result.json").exists()


@slow
def test_crest_expands_the_labels_of_a_semi_supervised_method(place):
  workdir = place / "crest"
  code, printed = run(place, workdir, *CREST, config="fixmatch")
  assert code == 0, printed
  rows = read_lines(workdir / "crest-1.jsonl")
  predicted = [sum(row["label"] == c for row in rows) for c in (0, 1)]
  drawn = [sum(row["copies"] for row in rows if row["label"] == c) for c in (0, 1)]
  assert drawn == [predicted[0] * 11 // 21, predicted[1]]  # 21 and 11 labels
  least = [min(r["confidence"] for r in rows if r["copies"] and r["label"] == 0)]
  least += [max(r["confidence"] for r in rows if not r["copies"])]
  assert least[0] >= least[1]
  sizes = read_config(workdir / "generation-1")["resolved"]["sizes"]
  assert sizes["labelled"] == 32 + sum(drawn)
  assert sizes["unlabelled"] == len(rows) - sum(drawn)


@slow
def test_crest_without_imbalance_leaves_nothing_unlabelled(place, config):
  fixmatch = ssljax.load_config("fixmatch", data=config.data, labels=16).to_dict()
  with pytest.raises(UserError, match="leaves no unlabelled text to fixmatch"):
    self_train.run(fixmatch, place / "even", draw="crest")
  assert not (place / "even").exists()


@slow
def test_python_returns_the_results(config, student):
  results = ssljax.self_train(config, student[0], 2, per_class=30)
  assert [r.workdir.name for r in results] == ["generation-0", "generation-1"]
  assert results[1].metrics == result(student[0] / "generation-1")
  assert results[1].classifier(["kind calm help"]).shape == (1,)


@slow
def test_a_dry_run_writes_nothing(place, config, capsys):
  keys = config.to_dict() | {"dry_run": True}
  assert self_train.run(keys, place / "dry") == 0
  assert "supervised: 16 labelled" in capsys.readouterr().out
  assert not (place / "dry").exists()


def wait(process, exists):
  deadline = time.monotonic() + runs.TIMEOUT
  while not exists():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.002)


@pytest.mark.faults
def test_after_kills_it_ends_with_the_same_draws_and_bits(place, student):
  straight, _ = student
  workdir = place / "killed"

  def saved(number):
    folder = workdir / f"generation-{number}" / "checkpoints"
    return any(path.name.isdigit() for path in folder.glob("*"))

  moments = [
    lambda: saved(0),
    lambda: (workdir / "generation-0" / "result.json").exists(),  # before the draw
    lambda: (workdir / "noisy_student-1.jsonl").exists(),
    lambda: saved(1),
    lambda: (workdir / "generation-2" / "config.json").exists(),
  ]
  for moment in moments:
    process = start(place, workdir, *STUDENT)
    wait(process, moment)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
  code, printed = run(place, workdir, *STUDENT)
  assert code == 0, printed
  for number in range(3):
    one, other = (result(w / f"generation-{number}") for w in (straight, workdir))
    assert one["params_sha256"] == other["params_sha256"]
    assert one["state_sha256"] == other["state_sha256"]
  for name in ("noisy_student-1.jsonl", "noisy_student-2.jsonl", self_train.SUMMARY):
    assert (straight / name).read_text() == (workdir / name).read_text()
  left = {path.name for path in workdir.rglob(".*")}
  assert left <= {".lock"}  # a kill after a result leaves an unlocked file


@pytest.mark.faults
def test_sigterm_saves_and_two_at_once_are_refused(place, student):
  workdir = place / "terminated"
  process = start(place, workdir, *STUDENT)
  wait(process, lambda: (workdir / "generation-1" / "config.json").exists())
  code, printed = run(place, workdir, *STUDENT)
  assert code == 2
  assert f"error: --workdir={workdir}: process " in printed
  process.terminate()
  printed, _ = process.communicate()
  assert process.returncode == 143, printed
  assert "run the command to continue" in printed
  code, printed = run(place, workdir, *STUDENT)
  assert code == 0, printed
  one, other = (result(w / "generation-2") for w in (student[0], workdir))
  assert one["params_sha256"] == other["params_sha256"]
