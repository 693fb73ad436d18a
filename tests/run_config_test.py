"""A run is compared by the content of its data and encoder, not by their place."""

import json
import shutil

import pytest

from configs import base
from ssljax import run_config
from tests import runs

HASHES = {"data_sha256": "a", "tokenizer_sha256": "b", "weights_sha256": "c"}


def config(data="data", encoder="encoder", **hashes):
  return {"data": data, "encoder": encoder, "resolved": HASHES | hashes}


@pytest.mark.parametrize(
  ("place", "expected"),
  [
    ("data", "{cwd}/data"),
    ("data/train.jsonl, data/val.jsonl", "{cwd}/data/train.jsonl,{cwd}/data/val.jsonl"),
    ("a,b", "{cwd}/a,b"),  # one folder
    ("data,missing", "data,missing"),
    ("someone/encoder", "someone/encoder"),
    ("", ""),
  ],
)
def test_paths_become_absolute(place, expected, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for folder in ("data", "a,b"):
    (tmp_path / folder).mkdir()
  for name in ("train", "val"):
    (tmp_path / "data" / f"{name}.jsonl").touch()
  assert run_config.absolute(place) == expected.format(cwd=tmp_path)
  assert run_config.absolute(run_config.absolute(place)) == expected.format(
    cwd=tmp_path
  )


def test_the_same_content_may_be_at_another_place():
  moved = config("moved/data", "moved/encoder")
  assert run_config.difference(config(), moved) == []
  del moved["resolved"]  # the content isn't known yet
  assert run_config.difference(config(), moved) == []


def test_other_content_is_a_difference_that_names_both_places():
  moved = config("moved/data", data_sha256="z")
  assert run_config.difference(config(), moved) == [
    "data: 'data' in the run, 'moved/data' now",
    "resolved.data_sha256: 'a' in the run, 'z' now",
  ]


def test_files_without_ids_may_have_other_names():
  named, other = ({"data_sha256": x, "rows_sha256": "r"} for x in "xy")
  saved = config(**named)
  moved = config("moved/data", **other)
  assert run_config.difference(saved, moved) == []
  changed = config("moved/data", **(other | {"rows_sha256": "z"}))
  assert run_config.difference(saved, changed) == [
    "data: 'data' in the run, 'moved/data' now",
    "resolved.rows_sha256: 'r' in the run, 'z' now",
  ]
  # A run of an older version holds only the hash with the names.
  older = config(data_sha256="x")
  assert run_config.difference(older, config("moved/data", **named)) == []
  assert len(run_config.difference(older, moved)) == 2


def test_a_run_without_hashes_keeps_the_place_of_its_encoder():
  old = config()
  del old["resolved"]["weights_sha256"]
  moved = config(encoder="moved")
  said = ["encoder: 'encoder' in the run, 'moved' now"]
  assert run_config.difference(old, moved) == said
  assert run_config.difference(old, config()) == []


@pytest.mark.parametrize("saved", [1, 2, 3])
def test_a_run_keeps_its_views_when_the_default_changes(tmp_path, saved):
  config = base.get_config("supervised").to_dict()
  before = {**config, "view_format": saved, "resolved": {}}
  (tmp_path / "config.json").write_text(json.dumps(before))
  kept, notes = run_config.continued(tmp_path, config)
  assert (kept["view_format"], len(notes)) == ((2, 1) if saved == 2 else (3, 0))
  assert "view_format=2: an older version" in "".join(notes) or saved != 2
  # A value that the command gives isn't replaced; the run then refuses it.
  kept, _ = run_config.continued(tmp_path, config | {"view_format": 1})
  assert kept["view_format"] == 1


def start(folder, module, *arguments):
  done = runs.command(module, *arguments, cwd=folder, env=runs.environment(folder))
  return done.returncode, done.stdout + done.stderr


def train(folder, place, *more):
  keys = runs.arguments(place, "supervised", "run")
  keys = [key for key in keys if not key.startswith("--workdir")]
  return start(folder, "ssljax.main", f"--workdir={place}/run", *keys, *more)


@pytest.mark.slow
def test_a_run_is_used_from_another_folder_and_with_moved_files(tmp_path):
  place = tmp_path / "place"
  place.mkdir()
  runs.folder(place)
  relative = ("--config.data=data", "--config.encoder=encoder")
  code, printed = train(place, place, *relative)
  assert code == 0, printed
  before = runs.result(place / "run")

  # From another folder, all that the run needs is found.
  evaluate = ("ssljax.evaluate", f"--workdir={place}/run")
  code, printed = start(tmp_path, *evaluate)
  assert code == 0, printed

  # Elsewhere, it is the same data, but not if it has changed.
  shutil.move(place / "data", place / "moved")
  encoder = f"--config.encoder={place}/encoder"
  code, printed = train(tmp_path, place, f"--config.data={place}/moved", encoder)
  assert code == 0, printed
  assert "already holds this run, finished" in printed
  shutil.copytree(place / "moved", place / "other")
  file = place / "other" / "train.jsonl"
  file.write_text(file.read_text().replace("bread", "bake"))
  code, printed = train(tmp_path, place, f"--config.data={place}/other", encoder)
  assert code == 2, printed
  assert "another config (data: " in printed
  assert len(printed.splitlines()) == 1

  # What is missing is said.
  code, printed = start(tmp_path, *evaluate)
  assert code == 2
  assert f"{place}/data" in printed
  assert "--data" in printed

  # Training continues with the moved files, to the same bits.
  (place / "run" / "result.json").unlink()
  shutil.move(place / "encoder", place / "elsewhere")
  encoder = f"--config.encoder={place}/elsewhere"
  code, printed = train(tmp_path, place, f"--config.data={place}/moved", encoder)
  assert code == 0, printed
  assert runs.result(place / "run")["state_sha256"] == before["state_sha256"]
  saved = json.loads((place / "run" / "config.json").read_text())
  assert saved["data"] == f"{place}/moved"

  # A run that has been moved is evaluated again, into the same folder.
  again = ("ssljax.evaluate", f"--output={place}/again")
  code, printed = start(tmp_path, *again, f"--workdir={place}/run")
  assert code == 0, printed
  shutil.move(place / "run", place / "renamed")
  code, printed = start(tmp_path, *again, f"--workdir={place}/renamed")
  assert code == 0, printed
  assert json.loads((place / "again" / "metrics.json").read_text())["workdir"] == (
    f"{place}/renamed"
  )
  shutil.move(place / "renamed", place / "run")

  shutil.move(place / "elsewhere", place / "gone")
  code, printed = start(tmp_path, *evaluate, "--output=other")
  assert code == 2
  assert "its encoder can't be read: " in printed
  assert f"{place}/elsewhere" in printed
  assert f"{place}/run/config.json" in printed
