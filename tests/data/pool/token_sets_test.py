"""Runs read the same rows from a token store as from the files."""

import json
import re
import types

import numpy as np
import pyarrow.parquet as pq
import pytest

from configs import base
from ssljax.batch import SecondCandidate
from ssljax.data import datasets, pseudo_labels, text_sets
from ssljax.data.batches import sealed
from ssljax.data.pool import build, splits, store, token_sets
from ssljax.data.records.read import read_splits
from ssljax.data.rows import load_rows
from ssljax.errors import RunError, UserError
from ssljax.method import Needs
from tests import tiny
from tests.data.pool import pools

NEEDS = Needs(views=("weak", "strong", SecondCandidate("strong")))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("encoder")
  tiny.folder_of_encoder(folder)
  return folder


@pytest.fixture
def config(tmp_path, encoder, monkeypatch):
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(build, "ROWS", 16)  # several shards
  monkeypatch.setattr(build, "_start_pool", pools.InThisProcess)
  config = base.get_config("fixmatch").to_dict()
  changes = {"encoder": str(encoder), "max_length": 16, "labels": 8}
  changes |= {"weak": ("self",), "strong": ("llm", "self"), "missing_view": "self"}
  return config | changes | {"data": str(tmp_path / "data"), "on_overlap": "drop"}


def both(config, needs=NEEDS):
  """The data of a run in format 2 and in format 3, or the error of each."""
  results = []
  for version, load in ((2, text_sets.load), (3, token_sets.load)):
    try:
      results.append(
        load(config | {"view_format": version}, needs, lambda folder: None)
      )
    except UserError as error:
      results.append(str(error))
  return results


def candidates(view):
  """The distinct texts that a view has for each row."""
  rows = np.arange(len(view.counts))
  found = [set() for _ in rows]
  for epoch in range(60):
    drawn = view.draw(1, rows * 0 + epoch, rows)
    texts = view.texts(drawn)
    assert view.lengths(drawn).tolist() == [len(ids) for ids, _ in texts]
    for own, (ids, prompt) in zip(found, texts, strict=True):
      own.add((*ids.tolist(), prompt))
  return found


CHANGES = [
  {},
  {"missing_view": "drop"},
  {"missing_view": "error"},
  {"on_overlap": "error"},
  {"strong": ("back",), "include_labelled": True, "labels": 5},
  {"labelled_imbalance": 3.0, "balance": "stratified"},
  {"unlabelled_imbalance": 2.0},
  {"labels": 0},
  {"labels": 300},
  {"strong": ("lmm",)},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_rows_labels_notes_and_errors_are_those_of_the_files(config, tmp_path, change):
  for seed in range(2):
    labelled = 1.0 if "unlabelled_imbalance" in change else 0.7
    folder = pools.write_folder(tmp_path / f"data{seed}", seed, labelled)
    changed = config | change | {"data": str(folder), "seed": seed}
    old, new = both(changed)
    if isinstance(old, str) or isinstance(new, str):
      assert old == new
      assert change.keys() & {"missing_view", "on_overlap", "labels", "strong"}
      continue
    assert list(old.notes) == list(new.notes)
    assert old.labels == new.labels
    assert old.validation == new.validation
    np.testing.assert_array_equal(old.train.label, new.train.label)
    np.testing.assert_array_equal(old.train.hidden, new.train.hidden)
    for part in ("labelled", "unlabelled"):
      for name, view in getattr(old.train, part).items():
        other = getattr(new.train, part)[name]
        np.testing.assert_array_equal(view.counts, other.counts)
        np.testing.assert_allclose(view.row_lengths, other.row_lengths)
        np.testing.assert_allclose(view.cut, other.cut)
        rows = np.arange(len(view.counts))
        for epoch in range(3):  # the same candidates are drawn
          taken = 5 if "_2" in name else None
          drawn, there = (
            v.draw(7, rows * 0 + epoch, rows, taken) for v in (view, other)
          )
          for a, b in zip(view.texts(drawn), other.texts(there), strict=True):
            assert (a[0].tolist(), a[1]) == (b[0].tolist(), b[1])
          np.testing.assert_array_equal(view.lengths(drawn), other.lengths(there))
        assert view.longest <= other.longest


def test_a_single_file_is_split_as_before(config, tmp_path):
  rng = np.random.default_rng(0)
  pools.write(tmp_path / "all.jsonl", pools.random_rows(rng, "all", 90))
  old, new = both(config | {"data": f"{tmp_path}/all.jsonl"})
  assert list(old.notes) == list(new.notes)
  assert (old.validation, old.test) == (new.validation, new.test)
  np.testing.assert_array_equal(old.train.hidden, new.train.hidden)


@pytest.mark.parametrize("paired", ["train", "test"])
def test_a_pair_overlaps_with_its_prompt(config, tmp_path, paired):
  for name in ("train", "val", "test"):
    rows = [{"text": f"{name} {i}", "label": i % 2} for i in range(12)]
    if name != "val":
      rows[5]["text"] = "calm bread"
    if name == paired:
      rows[5]["response"] = "help"
    pools.write(tmp_path / "data" / f"{name}.jsonl", rows)
  old, new = both(config | {"on_overlap": "error", "strong": ("self",)})
  assert "train.jsonl, line 6: this text is also in test" in new
  assert old == new


@pytest.mark.parametrize("include", [False, True])
def test_pseudo_labels(config, tmp_path, include):
  folder = pools.write_folder(tmp_path / "data", 3)
  changed = config | {"include_labelled": include, "labels": 6}
  pool = load_rows(changed).unlabelled
  ids = pool.column("id")[:9]
  copies = np.arange(9) % 3
  path = tmp_path / "pseudo.jsonl"
  pseudo = pseudo_labels.PseudoLabels(ids, np.arange(9) % 2, copies)
  pseudo_labels.write(path, pseudo, np.ones(9))
  old, new = both(changed | {"data": str(folder), "pseudo_labels": str(path)})
  assert list(old.notes) == list(new.notes)
  np.testing.assert_array_equal(old.train.label, new.train.label)
  np.testing.assert_array_equal(old.train.hidden, new.train.hidden)
  path.write_text(json.dumps({"id": "nobody", "label": 0}))
  old, new = both(changed | {"data": str(folder), "pseudo_labels": str(path)})
  assert "'nobody' is not an unlabelled text" in old
  assert old == new


def test_noise_is_new_at_each_visit(config, tmp_path):
  pools.write_folder(tmp_path / "data", 0)
  words = " ".join(tiny.WORDS)
  rows = [{"text": f"{words} {words}"[i:], "label": i % 2} for i in range(40)]
  pools.write(tmp_path / "data" / "train" / "a.jsonl", rows)
  changed = config | {"weak": ("words",), "strong": ("masked", "words", "self")}
  train = datasets.load_sets(changed, NEEDS).train.unlabelled
  assert (train["weak"].counts == 4).all()
  assert (train["strong"].counts == 9).all()
  sizes = [len(texts) for texts in candidates(train["weak"])[:25]]
  assert min(sizes) > 20
  for texts in candidates(train["strong"])[:25]:
    masked = [text for text in texts if 4 in text]
    assert len(masked) > 10
    assert len(texts) > len(masked) + 5
  assert train["weak"].longest <= 16
  rows = np.arange(20)
  sets = [datasets.load_sets(changed, NEEDS).train.unlabelled for _ in range(2)]
  drawn = [s["weak"].texts(s["weak"].draw(1, rows * 0, rows)) for s in sets]
  for (a, _), (b, _) in zip(*drawn, strict=True):
    assert a.tolist() == b.tolist()
  other = datasets.load_sets(changed | {"seed": 1}, NEEDS)
  assert other.sha256 != datasets.load_sets(changed, NEEDS).sha256


def test_stored_views_do_not_replace_computed_ones(config, tmp_path):
  def rows():
    for i in range(30):
      views = [{"kind": kind, "text": "stored"} for kind in ("self", "words", "masked")]
      yield {"text": " ".join(tiny.WORDS[i % 5 :]), "label": i % 2, "views": views}

  pools.write_folder(tmp_path / "data", 0)
  pools.write(tmp_path / "data" / "train" / "a.jsonl", rows())
  train = datasets.load_sets(config | {"strong": ("masked", "words", "self")}, NEEDS)
  for texts in candidates(train.train.unlabelled["strong"])[:20]:
    assert min(len(ids) for *ids, _ in texts) > 4


def test_words_are_replaced_by_words_of_train(config, tmp_path):
  """Not by those of validation and test, which are in the same file."""
  rows = [
    {"text": " ".join([tiny.WORDS[i % len(tiny.WORDS)]] * 12), "label": i % 2}
    for i in range(len(tiny.WORDS))
  ]
  pools.write(tmp_path / "all.jsonl", rows)
  config |= {"data": f"{tmp_path}/all.jsonl", "strong": ("words",), "labels": 2}
  train = datasets.load_sets(config | {"include_labelled": True}, NEEDS).train
  own = {text[1] for texts in candidates(train.unlabelled["weak"]) for text in texts}
  assert 5 < len(own) < len(tiny.WORDS)
  for texts in candidates(train.unlabelled["strong"]):
    assert {i for text in texts for i in text[1:-2]} <= own


@pytest.mark.parametrize("count", [1, 16, 17, 200])
def test_words_of_a_large_pool_are_counted_in_blocks_from_all_of_it(monkeypatch, count):
  monkeypatch.setattr(token_sets, "COUNTED", 8)
  monkeypatch.setattr(token_sets, "BLOCK", 4)
  monkeypatch.setattr(token_sets, "count_words", lambda ids, table: ids.tolist())
  index = types.SimpleNamespace(table=None)
  store = types.SimpleNamespace(token_ids=np.asarray, index=index)
  rows = 3 * np.arange(count)
  read = token_sets._count_words(store, rows)
  if count <= 16:
    assert read == rows.tolist()
  else:
    assert read == [*rows[:4], *rows[-4:]]


def test_a_single_file_that_changes_is_refused(config, tmp_path, monkeypatch):
  path, divide = tmp_path / "all.jsonl", splits._divide
  pools.write(path, pools.random_rows(np.random.default_rng(0), "all", 90))

  def change(*arguments):
    path.write_text(path.read_text().replace("bread", "bake"))
    return divide(*arguments)

  monkeypatch.setattr(splits, "_divide", change)
  with pytest.raises(RunError, match=r"all.jsonl: changed while it was read"):
    datasets.load_sets(config | {"data": str(path)}, NEEDS)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(
  "fault",
  [
    {"text": " "},
    {"text": None},
    {"label": 7},
    {"label": None, "label_name": "yes"},
    {"label_name": "no"},
    {"id": "train-3"},
    {"id": "val-0"},
  ],
  ids=str,
)
def test_a_mistake_is_named_as_before(config, tmp_path, kind, fault):
  rows = [
    {"id": f"train-{i}", "text": f"{tiny.WORDS[i % 9]} {i}", "label": i % 2}
    | {"label_name": ("no", "yes")[i % 2]}
    for i in range(40)
  ]
  rows[37] |= fault
  for name in ("val", "test"):
    own = [{"id": f"{name}-{i}", "text": f"{name} {i}", "label": i % 2} for i in (0, 1)]
    pools.write(tmp_path / "data" / f"{name}.jsonl", own)
  path = tmp_path / "data" / f"train.{kind}"
  if kind == "jsonl":
    pools.write(path, rows)
  elif kind == "csv":
    lines = [
      ",".join(str(v) if v is not None else "" for v in r.values()) for r in rows
    ]
    path.write_text("\n".join([",".join(rows[0]), *lines]))
  else:
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
  old, new = both(config)
  assert isinstance(old, str)
  assert old == new
  assert re.search(r"train\.\w+, (row|line) \d+|val.jsonl, line 1", old)


def test_the_hash_does_not_depend_on_files_or_shards(config, tmp_path, monkeypatch):
  config |= {"strong": ("llm", "back")}
  folder = pools.write_folder(tmp_path / "data", 1)
  rows = read_splits(folder).train.table.drop_columns(["id", "response"])
  files = [folder / "train" / name for name in ("a.jsonl", "b.jsonl")]
  for file, part in zip(files, (rows.slice(0, 20), rows.slice(20)), strict=True):
    pools.write(file, part.to_pylist())
  load = lambda: datasets.load_sets(config, NEEDS)
  first = load()
  for file in files:
    file.unlink()
  pq.write_table(rows, folder / "train" / "all.parquet", row_group_size=9)
  monkeypatch.setattr(build, "ROWS", 21)
  again = load()
  assert (first.sha256, first.rows_sha256) == (again.sha256, again.rows_sha256)

  (folder / "train" / "all.parquet").unlink()
  # A view that moves to the next row changes no sequence of tokens.
  moved = rows.to_pylist()
  i = next(i for i, row in enumerate(moved) if row["views"])
  moved[i + 1]["views"].insert(0, moved[i]["views"].pop())
  added = rows.to_pylist()
  added[50]["views"].append({"kind": "llm", "text": "bake", "response": None})
  for changed in (moved, added):
    pools.write(folder / "train" / "all.jsonl", changed)
    assert load().rows_sha256 != first.rows_sha256


def test_the_rows_of_a_store_stay_the_same_if_shards_are_closed_and_pages_dropped(
  config, tmp_path, monkeypatch
):
  pools.write_folder(tmp_path / "data", 3)
  whole = splits.open_splits(config).store
  assert len(whole.index.file) > 3
  monkeypatch.setattr(store, "OPEN", 2)
  monkeypatch.setattr(store, "READS", 5)
  dropped, drop = [], sealed.drop_pages
  monkeypatch.setattr(
    sealed, "drop_pages", lambda array: (dropped.append(len(array)), drop(array))
  )
  few = splits.open_splits(config).store
  rows = np.random.default_rng(0).permutation(np.tile(np.arange(len(whole)), 3))
  for row in rows.tolist():
    np.testing.assert_array_equal(few.text(row)[0], whole.text(row)[0])
    assert list(few.items(row)) == list(whole.items(row))
    assert len(few._open) <= 2
  assert len(dropped) > len(rows) / 5


def test_the_ids_of_many_texts_are_those_of_each(config, tmp_path):
  pools.write_folder(tmp_path / "data", 4)
  whole = splits.open_splits(config).store
  for rows in (np.arange(len(whole)), np.array([0, 1, 16, 40, 41]), np.zeros(0, int)):
    each = [whole.text(row)[0] for row in rows.tolist()]
    found = whole.token_ids(rows.astype(np.uint32))
    np.testing.assert_array_equal(found, np.concatenate([*each, []]))
