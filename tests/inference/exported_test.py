"""Exported folders: damage of any kind is found when they are loaded."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ssljax import SafetyClassifier, export
from ssljax.errors import UserError
from ssljax.inference.exported import HASHES, seal


@pytest.fixture
def folder(model, tmp_path):
  """A copy of an exported folder, to be damaged."""
  return shutil.copytree(model, tmp_path / "damaged")


@pytest.fixture
def old(folder):
  """The same as version 0.1.0 exported it."""
  change(folder, **dict.fromkeys(HASHES))
  return folder


def change(folder, **settings):
  """Replaces settings without a new seal; None removes them."""
  path = folder / "ssljax.json"
  card = json.loads(path.read_text()) | settings
  card = {name: value for name, value in card.items() if value is not None}
  path.write_text(json.dumps(card))


def flip(path, position):
  content = bytearray(path.read_bytes())
  content[position] ^= 1
  path.write_bytes(content)


@pytest.mark.parametrize(
  ("name", "text"),
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
def test_a_damaged_exported_folder_is_reported_in_one_line(
  old_runs, tmp_path, name, text
):
  folder = tmp_path / "damaged"
  shutil.copytree(old_runs / "export", folder)
  (folder / name).unlink()
  if text is not None:
    (folder / name).write_text(text)
  with pytest.raises(
    UserError, match=f"^{folder}: .*; export the run again$"
  ) as caught:
    SafetyClassifier.load(folder)
  assert "fetch" not in str(caught.value)


def test_a_flipped_bit_in_any_file_is_found(folder):
  card = json.loads((folder / "ssljax.json").read_text())
  names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
  assert card["files"].keys() == names - {"ssljax.json"}
  for name in card["files"]:
    flip(folder / name, -2)
    with pytest.raises(UserError, match=f"{name} has changed since the export"):
      SafetyClassifier.load(folder)
    flip(folder / name, -2)
  for position in range(0, (folder / "ssljax.json").stat().st_size, 7):
    flip(folder / "ssljax.json", position)
    with pytest.raises(UserError, match=r"; export the run again$"):
      SafetyClassifier.load(folder)
    flip(folder / "ssljax.json", position)
  SafetyClassifier.load(folder)


def test_only_what_version_0_1_0_exported_is_swept(folder, old, tmp_path):
  process = subprocess.Popen([sys.executable, "-c", ""])
  process.wait()
  left = tmp_path / f".model.{process.pid}"
  for change_it, is_kept in (
    (lambda: seal(left, json.loads((left / "ssljax.json").read_text())), True),
    (lambda: (left / "ssljax.json").unlink(), True),  # another model
    (lambda: None, False),
  ):
    shutil.copytree(old, left, dirs_exist_ok=True)
    change_it()
    export._sweep_old(tmp_path / "model")
    assert left.exists() == is_kept


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"temperature": 2.5}, "ssljax.json has changed"),
    ({"thresholds": {"fpr_1%": 0.9}}, "ssljax.json has changed"),
    ({"labels": ["1", "0"]}, "ssljax.json has changed"),
    ({"files": {}}, "ssljax.json has changed"),
    ({"files": None}, "'files'"),
    ({"sha256": None}, "'sha256'"),
  ],
)
def test_a_changed_setting_is_found(folder, settings, message):
  change(folder, **settings)
  with pytest.raises(UserError, match=message):
    SafetyClassifier.load(folder)


def test_only_the_model_card_and_files_of_no_meaning_may_change(folder):
  (folder / "README.md").write_text("licence: mine")
  (folder / ".gitattributes").write_text("")
  SafetyClassifier.load(folder)
  (folder / "added_tokens.json").write_text('{"harm": 7}')
  with pytest.raises(UserError, match=r"added_tokens\.json was added since the export"):
    SafetyClassifier.load(folder)


def test_a_folder_of_version_0_1_0_is_loaded_with_a_note(old, classifier, capsys):
  scores = SafetyClassifier.load(old)(["calm", "harm"])
  np.testing.assert_array_equal(scores, classifier(["calm", "harm"]))
  (note,) = capsys.readouterr().err.splitlines()
  assert note.startswith(f"{old}: has no hashes of its files")
  seal(old, json.loads((old / "ssljax.json").read_text()))
  SafetyClassifier.load(old)
  assert not capsys.readouterr().err


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"temperature": 0}, r"temperature=0: it must be 0\.05 to 20"),
    ({"temperature": -1.0}, r"temperature=-1\.0: it must be"),
    ({"temperature": float("nan")}, "temperature=nan: it must be"),
    ({"temperature": "1"}, "temperature='1': it must be a number"),
    ({"temperature": True}, "temperature=True: it must be a number"),
    ({"thresholds": {"fpr_1%": float("nan")}}, "fpr_1%=nan: it must be 0 to 1"),
    ({"thresholds": {"fpr_1%": 1.5}}, r"fpr_1%=1\.5: it must be 0 to 1"),
    ({"thresholds": [0.5]}, "no attribute 'items'"),
    ({"head": "x"}, "head='x': it must be one of mlp, hf"),
    ({"voters": 0}, "voters=0: it must be 1 or more"),
    ({"max_length": 0}, "max_length=0: it must be 4 or more"),
    ({"max_length": 10**6}, "max_length=1000000: there are"),
    ({"labels": ["0"]}, "two or more different names"),
    ({"labels": ["0", "0"]}, "two or more different names"),
    ({"labels": ["0", "1", "2"]}, "classifier/bias is"),
  ],
)
def test_an_impossible_setting_is_refused(old, settings, message):
  change(old, **settings)
  with pytest.raises(UserError, match=f"^{old}: .*{message}.*; export the run again$"):
    SafetyClassifier.load(old)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["2_Dense", "3_Dense"])
def test_a_head_that_is_not_finite_is_refused(old, name, value):
  file = old / name / "model.safetensors"
  tensors = {key: tensor.copy() for key, tensor in load_file(file).items()}
  tensors["linear.weight"].flat[1] = value
  save_file(tensors, file)
  with pytest.raises(UserError, match=f"{name}/model.safetensors contains NaN or inf"):
    SafetyClassifier.load(old)
