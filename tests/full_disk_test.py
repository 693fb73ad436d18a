"""A full disk ends each command with a RunError, whose exit code is 1."""

import contextlib
import errno
import importlib
import os
import types

import pytest

from ssljax import export
from ssljax.augment import inspect, storage
from ssljax.data import prepare
from ssljax.data.batches import tokenize
from ssljax.errors import MISTAKE, RunError, UserError
from ssljax.evals import runs
from ssljax.evals.report import html, run_page
from ssljax.report import report
from ssljax.runtime import lock
from ssljax.runtime.atomic import cannot_write
from ssljax.training import workdir
from tests import tiny
from tests.augment import folders
from tests.scored import hidden_files, write_file
from tests.training.failed_save_test import small_files

predict = importlib.import_module("ssljax.predict")  # ssljax.predict is a function

FULL = r"cannot be written \(File too large\); free some space or"


def test_the_exit_code_is_1_only_for_full_and_failing_disks():
  error = lambda number: OSError(number, os.strerror(number))
  for number in (errno.ENOSPC, errno.EIO):
    assert cannot_write("a", error(number), "name another").code == RunError.code
  assert cannot_write("a", error(errno.EISDIR), "name another").code == MISTAKE
  message = str(cannot_write("a", error(errno.EIO), "name another"))  # also of a read
  assert message.startswith("a: cannot be read or written (Input/output error)")


def test_prepare(tmp_path):
  rows = [{"text": f"calm {i}", "label": i % 2} for i in range(100)]
  write_file(tmp_path / "train.jsonl", rows)
  with small_files(1000), pytest.raises(RunError, match=rf"--output=\S*set: {FULL}"):
    prepare.prepare(str(tmp_path), str(tmp_path / "set"))


def test_inspect(tmp_path):
  data, page = folders.make_folder(tmp_path / "data", 8), tmp_path / "page.html"
  with small_files(1000), pytest.raises(RunError, match=rf"--output=\S*html: {FULL}"):
    inspect.show(str(data), "", 3, "train", str(page))


def test_report(tmp_path, monkeypatch):
  found = {
    "find_runs": [types.SimpleNamespace(workdir=tmp_path)],
    "find_unfinished": [],
  }
  for name, value in found.items():
    monkeypatch.setattr(runs, name, lambda _, value=value: value)
  page = html.MARK.decode() * 100
  monkeypatch.setattr(run_page, "render_run", lambda _: page)
  with small_files(1000), pytest.raises(RunError, match=rf"--output=\S*html: {FULL}"):
    report([str(tmp_path)])


def test_the_start_of_a_run(tmp_path):
  with small_files(1000), pytest.raises(RunError, match=rf"--workdir=\S*run: {FULL}"):
    workdir.start(tmp_path / "run", {"data": "x" * 2000})


@pytest.mark.slow
def test_predict_says_that_rows_are_kept_only_if_there_are_some(
  classifier, tmp_path, monkeypatch
):
  monkeypatch.setattr(predict, "CHUNK_SIZE", 10)
  rows = [{"text": "calm " * size} for size in (10, 500) for _ in range(10)]
  source = write_file(tmp_path / "in.jsonl", rows)
  output = tmp_path / "out.jsonl"
  # Compiles first, since JAX may store the programs.
  predict.predict(classifier, source, tmp_path / "first.jsonl")
  score = lambda: predict.predict(classifier, source, output)
  with small_files(200), pytest.raises(RunError, match=rf"{FULL} name another file$"):
    score()
  with (
    small_files(10_000),
    pytest.raises(RunError, match=rf"{FULL}.* rows are kept in"),
  ):
    score()
  assert hidden_files(tmp_path) == [".out.jsonl.parts"]
  assert score().startswith("20 rows scored")


def test_the_token_cache(tmp_path, monkeypatch):
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  tiny.folder_of_encoder(tmp_path)
  texts = ["how to bake bread"] * 100
  encode = lambda: tokenize.encode_cached(tmp_path, texts, [None] * 100, 64)
  with small_files(1000), pytest.raises(RunError, match="cannot write the token cache"):
    encode()
  assert len(encode().lengths) == 100


def test_a_new_version_of_a_dataset(tmp_path):
  data = folders.make_folder(tmp_path / "data", 8)
  before = sorted(path.name for path in data.rglob("*"))
  with (
    small_files(1000),
    pytest.raises(RunError, match="cannot write its new version"),
    storage.new_version(data, lambda path: path.name == "new.txt") as folder,
  ):
    (folder / "new.txt").write_text("x" * 2000)
  assert sorted(path.name for path in data.rglob("*")) == before


def test_a_lock(tmp_path, monkeypatch):
  with small_files(1), lock.exclusive(tmp_path / "out", "--output"):
    pass  # only the line about its holder is missing
  full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
  monkeypatch.setattr(lock, "_acquire", lambda *_: raises(full))
  with (
    pytest.raises(RunError, match=r"--output=\S*out: cannot be written \(No space"),
    lock.exclusive(tmp_path / "out", "--output"),
  ):
    pass


def raises(error):
  raise error


def test_export_refuses_a_folder_made_while_it_waited(tmp_path, monkeypatch):
  output = tmp_path / "model"

  @contextlib.contextmanager
  def exclusive(target, flag):
    output.mkdir()  # by the process that had the lock
    yield

  monkeypatch.setattr(runs, "read_run", lambda _: None)
  monkeypatch.setattr(lock, "exclusive", exclusive)
  monkeypatch.setattr(export, "_write", lambda *_: pytest.fail("a lot of work"))
  with pytest.raises(UserError, match=r"--output=\S*model exists; name a new folder"):
    export.export("run", output)


def test_export_says_that_another_command_has_made_the_folder(tmp_path, monkeypatch):
  output = tmp_path / "model"

  def write(run, folder):
    (folder / "config.json").touch()
    output.mkdir()
    (output / "metrics.json").touch()

  monkeypatch.setattr(runs, "read_run", lambda _: None)
  monkeypatch.setattr(export, "_write", write)
  monkeypatch.setattr(export, "_check_logits", lambda *_: None)
  with pytest.raises(UserError, match=r"--output=\S*model exists; name a new folder"):
    export.export("run", output)
  assert [path.name for path in tmp_path.iterdir()] == ["model"]
