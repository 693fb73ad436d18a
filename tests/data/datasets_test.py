"""Builds the datasets of a run from its config: views, overlap, errors."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from configs import base
from ssljax import run_config
from ssljax.data import datasets, text_sets, views
from ssljax.data.batches import tokenize
from ssljax.errors import UserError
from ssljax.method import Needs
from tests import runs, tiny

GOOD, BAD = tiny.WORDS[0], tiny.WORDS[5]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("encoder")
  tiny.folder_of_encoder(folder)
  return folder


@pytest.fixture
def config(tmp_path, encoder, monkeypatch):
  """Rows whose words give away the label; every third has a stored view."""
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  (tmp_path / "data").mkdir()
  for name in ("train", "val", "test"):
    rows = []
    for i in range(30):
      word = BAD if i % 2 else GOOD
      text = f"{word} {name}{i}"  # too short to be perturbed
      view = {"kind": "llm", "text": f"{word} {text}", "response": None, "origin": ""}
      views = [view] * (i % 3 == 0)
      rows.append({"id": f"{name}{i}", "text": text, "label": i % 2, "views": views})
    path = tmp_path / "data" / f"{name}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
  config = base.get_config("fixmatch").to_dict()
  folders = {"data": f"{tmp_path}/data", "encoder": str(encoder)}
  return config | folders | {"labels": 8, "weak": ("llm",), "max_length": 16}


@pytest.fixture(params=[2, 3])
def both(config, request):
  """The config with the old and the new format of views."""
  return config | {"view_format": request.param}


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["self", "words", "drop"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labelled_rows_without_the_view_use_their_text(both, missing, seed):
  changed = both | {"missing_view": missing, "seed": seed}
  needs = Needs(views=("weak",))
  train = datasets.load_sets(changed, needs).train
  view = train.labelled["weak"]
  assert (view.counts > 0).all()
  rows = np.arange(8)
  texts = view.texts(view.draw(0, rows * 0, rows))
  for label, (ids, _) in zip(train.label, texts, strict=True):
    assert ids[1] == 5 + tiny.WORDS.index(BAD if label else GOOD)
  counts = train.unlabelled["weak"].counts
  assert (counts > 0).all()
  assert (len(counts) < 22) == (missing == "drop")


def test_missing_view_of_labelled_rows(both):
  with pytest.raises(UserError, match=r"labelled rows.*missing_view"):
    datasets.load_sets(both, Needs(views=()))


@pytest.mark.parametrize("missing", ["error", "self", "words", "drop"])
def test_a_kind_that_no_row_stores_is_refused(config, missing):
  changed = config | {"strong": ("self", "lmm"), "missing_view": missing}
  changed["weak"] = ("self",)
  needs = Needs(views=("weak", "strong"))
  with pytest.raises(UserError, match=r"config.strong=self,lmm.*'lmm'.*mean 'llm'\?"):
    datasets.load_sets(changed, needs)
  datasets.load_sets(changed, Needs(views=("weak",)))  # nothing reads it
  if missing != "error":  # version 0.1.0 accepted it
    notes = datasets.load_sets(changed | {"view_format": 1}, needs).notes
    assert any("100.0% of the 22 unlabelled rows lack it" in note for note in notes)


@pytest.mark.parametrize("missing", ["self", "words", "drop"])
def test_the_share_of_rows_without_the_view_is_said(config, missing):
  folder = Path(config["data"])
  lines = (folder / "train.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  for row in rows[::6]:
    row["views"][0]["origin"] = "fallback:self"
  (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
  changed = config | {"missing_view": missing, "labels": 2}
  notes = datasets.load_sets(changed, Needs(views=("weak",))).notes
  lacking = [note for note in notes if "unlabelled rows lack it" in note]
  (fallback,) = [note for note in notes if "unlabelled rows have only the f" in note]
  shares = [
    round(float(re.search(r"([\d.]+)% of the 28", note)[1]) * 0.28)
    for note in (*lacking, fallback)
  ]
  assert shares[0] in (18, 19, 20)
  assert shares[1] in (3, 4, 5)
  assert all("view 'llm' (--config.weak)" in note for note in (*lacking, fallback))
  assert f"missing_view={missing}" in lacking[0]


def test_a_run_that_version_0_1_0_started_keeps_its_words(config, tmp_path):
  saved = {"method": {"name": "fixmatch"}, "resolved": {}}
  (tmp_path / "config.json").write_text(json.dumps(saved))
  assert run_config.read(tmp_path)["view_format"] == 1
  folder = Path(config["data"])
  rows = [{"text": f"का खि गु {i} घृ चे", "label": i % 2} for i in range(30)]
  (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
  changed, needs = config | {"weak": ("words",)}, Needs(views=("weak",))
  new = datasets.load_sets(changed, needs).sha256
  old = datasets.load_sets(changed | {"view_format": 1}, needs).sha256
  assert new != old
  assert datasets.load_sets(changed, needs).sha256 == new  # not mixed up in the cache


def test_perturbed_texts_are_cached(config, monkeypatch):
  changed = config | {"weak": ("self",), "strong": ("words",), "view_format": 2}
  needs = Needs(views=("weak", "strong"))
  first = datasets.load_sets(changed, needs)
  monkeypatch.setattr(text_sets.word_noise, "perturb_all", None)
  assert datasets.load_sets(changed, needs).sha256 == first.sha256
  with pytest.raises(TypeError):
    datasets.load_sets(changed | {"seed": 1}, needs)


def test_masked_candidates_are_added_to_the_others(config):
  pytest.importorskip("tensorflow_text", reason="pip install -e '.[tftext]'")
  changed = config | {"weak": ("self",), "strong": ("self", "masked", "llm")}
  changed |= {"missing_view": "self", "view_format": 2}
  train = datasets.load_sets(changed, Needs(views=("weak", "strong"))).train.unlabelled
  weak, strong = train["weak"], train["strong"]
  assert (np.diff(strong.begin) == 1 + views.CANDIDATES + 1).all()
  for row, first in enumerate(strong.begin[:-1]):
    whole = weak.tokens.text(row)[0]
    candidates = [strong.tokens.text(first + k)[0] for k in range(2 + views.CANDIDATES)]
    np.testing.assert_array_equal(candidates[0], whole)
    for ids in candidates[1:-1]:
      assert set(ids[ids != whole]) == {4}  # [MASK]
    assert 4 not in candidates[-1]


def overlapping(config, change):
  """Replaces the test set by texts that `change` makes from the rows of train."""
  folder = Path(config["data"])
  lines = (folder / "train.jsonl").read_text().splitlines()
  train = [json.loads(line) for line in lines]
  rows = [
    {"id": f"other{i}", "text": text, "label": i % 2}
    for i, text in enumerate(change(train))
  ]
  (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
  return config | {"weak": ("self",), "missing_view": "error"}


def test_overlap_with_test_is_refused_or_dropped(both):
  config = overlapping(both, lambda train: [row["text"].upper() for row in train[:2]])
  needs = Needs(views=("weak",))
  with pytest.raises(UserError, match=r"train.*, line 1: .*test.*on_overlap=drop"):
    datasets.load_sets(config, needs)
  sets = datasets.load_sets(config | {"on_overlap": "drop"}, needs)
  assert len(sets.train.label) + len(sets.train.hidden) == 28
  assert "dropped 2 rows and 0 views of train that are also in validation or test" in (
    sets.notes
  )


def test_errors_mention_dropped_rows(both):
  views = overlapping(both, lambda train: [train[0]["views"][0]["text"], "x"])
  views |= {"on_overlap": "drop", "weak": ("llm",)}
  with pytest.raises(UserError, match=r"stored for .*0 rows and 1 views of train"):
    datasets.load_sets(views, Needs(views=("weak",)))
  good = overlapping(both, lambda train: [row["text"] for row in train[::2]])
  with pytest.raises(UserError, match=r"label.*15 rows and 0 views of train"):
    datasets.load_sets(good | {"on_overlap": "drop"}, Needs(views=("weak",)))


def test_a_run_with_overlap_stops_with_one_line(config, tmp_path):
  config = overlapping(config, lambda train: [train[5]["text"], "x"])
  keys = ("data", "encoder", "labels", "max_length")
  done = runs.command(
    "ssljax.main",
    "--config=configs/supervised.py",
    f"--workdir={tmp_path}/run",
    *(f"--config.{key}={config[key]}" for key in keys),
  )
  assert done.returncode == 2
  assert "on_overlap=drop" in done.stderr
  assert len(done.stderr.splitlines()) == 1
  assert not (tmp_path / "run").exists()


def test_settings_of_tokens_reach_the_cache(config, monkeypatch):
  seen, read = [], tokenize.encode_views_cached

  def record(*arguments, **options):
    seen.append(options)
    return read(*arguments, **options)

  monkeypatch.setattr(tokenize, "encode_views_cached", record)
  settings = {"tokenization": "transformers", "verify": True}
  changed = config | settings | {"missing_view": "self", "view_format": 2}
  datasets.load_sets(changed, Needs(views=("weak",)))
  assert len(seen) == 4  # two views, and two sets to evaluate
  assert all(options == settings for options in seen)


def test_an_encoder_that_cannot_be_used_is_refused_before_its_tokenizer_is_loaded(
  config, monkeypatch
):
  def refuse(folder):
    raise UserError(f"{folder}: unsupported")

  monkeypatch.setattr(tokenize, "load_tokenizer", None)
  changed = config | {"missing_view": "self"}
  with pytest.raises(UserError, match=r"encoder.*: unsupported"):
    datasets.load_sets(changed, Needs(views=("weak",)), refuse)


@pytest.mark.parametrize("ids", [False, True])
def test_the_hash_of_rows_does_not_depend_on_the_names_of_files(config, tmp_path, ids):
  rows = [{"text": f"{(GOOD, BAD)[i % 2]} {i}", "label": i % 2} for i in range(60)]
  if ids:
    rows = [{"id": f"own:{i}", **row} for i, row in enumerate(rows)]

  def load(name, rows):
    (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    changed = {"data": f"{tmp_path}/{name}", "weak": ("self",)}
    return datasets.load_sets(config | changed, Needs(views=()))

  mine, yours = load("mine.jsonl", rows), load("yours.jsonl", rows)
  assert mine.rows_sha256 == yours.rows_sha256
  assert (mine.sha256 == yours.sha256) == ids
  other = rows if ids else [{"id": f"other:{i}", **r} for i, r in enumerate(rows)]
  # These ids don't come from the file's name, so they count.
  assert (load("mine.jsonl", other).rows_sha256 == mine.rows_sha256) == ids
  assert load("mine.jsonl", rows[::-1]).rows_sha256 != mine.rows_sha256


def test_texts_that_a_model_has_chosen_are_not_held_back(config):
  plain = config | {"weak": ("self",), "calibration": 0.5}
  held_back = datasets.load_sets(plain, Needs(views=())).calibration
  assert len(held_back.rows) == 16
  path = Path(config["data"]) / "val.jsonl"
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  chosen = held_back.rows.column("id")[0]
  rows = [row | {"source": "select"} if row["id"] == chosen else row for row in rows]
  path.write_text("\n".join(map(json.dumps, rows)))
  with pytest.raises(UserError, match="chose 1 of the held-back texts"):
    datasets.load_sets(plain, Needs(views=()))
  notes = datasets.load_sets(plain | {"calibration": 0.0}, Needs(views=())).notes
  assert any("chose 1 of" in note for note in notes), notes
