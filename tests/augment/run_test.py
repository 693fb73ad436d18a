"""Whole runs over small folders: what they leave, what a kill leaves, who may run."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssljax.augment.filters.text import drop_reason
from ssljax.augment.query import CachedEngine
from ssljax.augment.run import run
from ssljax.augment.settings import parse_config
from ssljax.data.records.schema import SCHEMA
from ssljax.errors import UserError
from tests.augment import places
from tests.augment.folders import TEXTS, backwards, beside, config, state


def test_every_text_gets_its_view_and_nothing_else_changes(data):
  before = places.read(data)
  untouched = {k: v for k, v in state(data).items() if not k.startswith("train")}
  found = run(config(), data)
  after = places.read(data)
  assert after.schema == before.schema
  assert after.drop_columns("views") == before.drop_columns("views")
  for old, new in zip(before.to_pylist(), after.to_pylist(), strict=True):
    assert new["views"][:-1] == (old["views"] or [])
    view = new["views"][-1]
    assert view["text"] == backwards(new["text"])
    assert (view["kind"], view["response"]) == ("mine", None)
    assert view["origin"] == found["origin"]
  assert untouched.items() <= state(data).items()
  assert beside(data) == set()
  assert sorted(p.name for p in (data / "train").iterdir()) == [
    "part-0.parquet",
    "part-1.parquet",
  ]
  assert places.report(data)["origins"][found["origin"]]["engine"] == "custom"
  assert places.report(data)["counts"]["views"] == TEXTS


def test_two_kinds_live_side_by_side_and_a_kind_is_replaced_or_added_to(data):
  run(config(), data)
  run(config("thrice", kind="other", views=2), data)
  first = places.views(data, "mine")
  assert all(len(some) == 1 for some in first)
  assert all(len(some) == 2 for some in places.views(data, "other"))
  run(config("thrice", views=2), data)
  assert all(len(some) == 2 for some in places.views(data, "mine"))
  for _ in range(2):  # a copy of one that is there: dropped each time
    found = run(config(replace=False), data)
    assert {row["reason"] for row in places.dropped(data)} == {"copy of another view"}
    assert found["counts"]["texts without a further view"] == TEXTS
    assert "fallbacks" not in found["counts"]
    assert all(len(some) == 2 for some in places.views(data, "mine"))
  run(config("rotated", replace=False), data)  # another one comes beside them
  assert all(len(set(some)) == 3 for some in places.views(data, "mine"))
  assert len(places.report(data)["origins"]) == 3
  assert all("an older view" in some for some in places.views(data, "old")[::4])


def test_a_second_run_asks_nothing_and_a_changed_setting_asks_anew(data):
  first = run(config(), data)
  once = state(data)
  assert len(places.noted(data)) == TEXTS
  second = run(config(), data)
  assert len(places.noted(data)) == TEXTS
  assert second["counts"]["answers from the cache"] == TEXTS
  assert {k: v for k, v in state(data).items() if "mine.json" not in k} == {
    k: v for k, v in once.items() if "mine.json" not in k
  }
  third = run(config(version="2"), data)
  assert len(places.noted(data)) == 2 * TEXTS
  assert third["origin"] != first["origin"]
  assert set(places.report(data)["origins"]) == {first["origin"], third["origin"]}
  run(config(most_ratio=2.0), data)  # a filter is no setting of the engine
  assert len(places.noted(data)) == 2 * TEXTS


def test_rows_of_one_text_ask_once(tmp_path, data):
  both = places.folder(tmp_path / "both", 8, parts=1)
  table = places.read(both)
  text = table.schema.get_field_index("text")
  column = pa.array(["bake one more loaf"] * 8, pa.large_string())
  same = table.set_column(text, table.schema.field(text), column)
  pq.write_table(same, both / "train" / "part-0.parquet")
  run(config(), both)
  assert places.noted(data) == ["0 bake one more loaf"]
  assert places.views(both, "mine") == [["loaf more one bake"]] * 8


def test_dropped_views_are_asked_for_again_and_kept_with_their_reason(data):
  found = run(config("stubborn"), data)
  assert found["counts"]["views"] == TEXTS
  assert found["counts"]["asked for candidate 2"] == TEXTS // 2
  assert found["counts"]["dropped: refusal"] == TEXTS // 2
  lost = places.dropped(data)
  assert len(lost) == TEXTS // 2
  assert lost[0] == {
    "id": "row-0",
    "number": 0,
    "reason": "refusal",
    "text": "I cannot help with that.",
    "response": None,
    "origin": found["origin"],
  }
  asked = places.noted(data)
  assert len(asked) == len(set(asked)) == TEXTS + TEXTS // 2


def test_a_link_to_a_folder_stays_one(data, tmp_path):
  link = tmp_path / "link"
  link.symlink_to("data")
  run(config(), link)
  assert link.is_symlink()
  assert all(places.views(data, "mine"))


def test_a_language_that_nobody_knows_is_named_before_the_work(data):
  with pytest.raises(UserError, match=r"--config.language='xx'"):
    run(config(language="xx"), data)
  assert not places.noted(data)


def test_dropped_views_stand_in_the_order_of_the_rows(data, monkeypatch):
  ask = CachedEngine.__call__
  backward = lambda *given: reversed(list(ask(*given)))  # as answers may come in
  monkeypatch.setattr(CachedEngine, "__call__", backward)
  run(config("stubborn"), data)
  ids = [row["id"] for row in places.dropped(data)]
  assert ids == [f"row-{i}" for i in range(0, TEXTS, 2)]


def test_a_limit_leaves_the_other_rows_alone(data):
  before = places.read(data)
  run(config(limit=11), data)
  after = places.read(data)
  assert after.slice(11) == before.slice(11)
  assert [len(some) for some in places.views(data, "mine")] == [1] * 11 + [0] * 29
  assert len(places.noted(data)) == 11


def test_a_pair_keeps_its_form(tmp_path, data):
  pairs = places.folder(tmp_path / "pairs", 8, response=True)
  run(config(), pairs)
  for row in places.read(pairs).to_pylist():
    assert row["views"][-1]["response"] == row["response"]
    assert row["views"][-1]["text"] == backwards(row["text"])


def test_any_number_of_processes_gives_the_same_rows(data, tmp_path):
  other = places.folder(tmp_path / "other", TEXTS)
  for folder, workers in ((data, 1), (other, 2)):
    run(config("stubborn", stored=False, workers=workers), folder)
  assert places.read(data) == places.read(other)
  assert places.dropped(data) == places.dropped(other)
  one, two = places.report(data)["counts"], places.report(other)["counts"]
  one.pop("answers of the engine")
  assert one == two


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"views": 0}, r"config.views=0: it must be at least 1"),
    ({"fallback": "slef"}, r"config.fallback='slef': it is one of self, words, none"),
    ({"kind": "self"}, r"config.kind='self'"),
    ({"kind": "../up"}, r"config.kind"),
    ({"kind": "a" * 65}, r"config.kind"),
    ({"label_check": "/nowhere"}, r"--config.label_check: /nowhere"),
    ({"splits": ("dev",)}, r"no split 'dev'"),
    ({"engine": "custmo"}, r"no engine 'custmo' .* did you mean 'custom'"),
    ({"functoin": "a:b"}, r"config.functoin: .* did you mean 'function'"),
    ({"function": "nowhere:f"}, r"nowhere"),
    ({"most_ratio": 0.1}, r"most_ratio=0.1: it must be above least_ratio"),
  ],
)
def test_a_mistake_is_one_clear_line_and_nothing_is_written(data, change, said):
  old = state(data)
  with pytest.raises(UserError, match=said):
    run(config(**change), data)
  assert state(data) == old
  assert beside(data) <= set()


def test_plain_files_are_sent_through_prepare(tmp_path):
  (tmp_path / "plain").mkdir()
  (tmp_path / "plain" / "train.jsonl").write_text('{"text": "bake", "label": 0}\n')
  with pytest.raises(UserError, match=r"python -m ssljax.data.prepare --source="):
    run(config(), tmp_path / "plain")
  with pytest.raises(UserError, match=r"no such folder"):
    run(config(), tmp_path / "nowhere")
  assert [p.name for p in tmp_path.iterdir()] == ["plain"]


def test_no_secret_reaches_the_report(data, monkeypatch):
  from ssljax.augment import report

  monkeypatch.setenv("SOME_API_KEY", "sesame-open")
  found = report.scrub(
    {
      "base_url": "http://me:word@host/v1?k=sesame-open",
      "api_key": "abc",
      "max_tokens": 3,
      "nested": [{"password": "p", "note": "said sesame-open twice: sesame-open"}],
    }
  )
  text = json.dumps(found)
  assert not any(word in text for word in ("sesame", "me:word", "abc", '"p"'))
  assert found["max_tokens"] == 3
  run(config(version="sesame-open"), data)
  everything = [p for p in data.rglob("*") if p.is_file()]
  assert not any(b"sesame" in p.read_bytes() for p in everything)


def test_training_takes_the_folder(data, tmp_path):
  from tests import tiny

  run(config(), data)
  (tmp_path / "encoder").mkdir()
  tiny.folder_of_encoder(tmp_path / "encoder")
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "ssljax.main",
      f"--config={places.ROOT}/configs/fixmatch.py",
      f"--config.data={data}",
      f"--config.encoder={tmp_path}/encoder",
      "--config.strong=mine",
      "--config.labels=8",
      "--config.batch=4",
      "--config.max_length=32",
      "--config.dry_run=true",
    ],
    cwd=places.ROOT,
    env={**os.environ, "XLA_FLAGS": ""},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert "step shape" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_label_check_is_the_verdict_of_the_trained_run(tmp_path):
  """Whether two texts get one label is asked of `SameLabel`, and of the predictions."""
  from ssljax.augment.engine import Candidate, Source
  from ssljax.augment.filters.label import SameLabel
  from ssljax.augment.filters.similarity import Similarity
  from tests import tiny

  for seed, (name, rows) in enumerate({"train": 60, "val": 20, "test": 20}.items()):
    tiny.write_rows(tmp_path / f"{name}.jsonl", rows, seed)
  (tmp_path / "encoder").mkdir()
  tiny.folder_of_encoder(tmp_path / "encoder")
  subprocess.run(
    [
      sys.executable,
      "-m",
      "ssljax.main",
      f"--config={places.ROOT}/configs/supervised.py",
      f"--workdir={tmp_path}/run",
      f"--config.data={tmp_path}",
      f"--config.encoder={tmp_path}/encoder",
      "--config.labels=16",
      "--config.batch=8",
      "--config.steps=16",
      "--config.max_length=32",
      "--config.learning_rate=0.003",
    ],
    cwd=places.ROOT,
    env={**os.environ, "XLA_FLAGS": "", "SSLJAX_CACHE": str(tmp_path / "cache")},
    check=True,
    capture_output=True,
  )
  table = pq.read_table(tmp_path / "run" / "predictions" / "test.parquet").to_pylist()
  label = {row["id"]: max(0, 1, key=row["logits"].__getitem__) for row in table}
  assert set(label.values()) == {0, 1}
  lines = (tmp_path / "test.jsonl").read_text().splitlines()
  text = {row["id"]: row["text"] for row in map(json.loads, lines)}
  pairs = list(zip(label, reversed(label), strict=True))
  asked = [(Source(a, text[a]), Candidate(text[b])) for a, b in pairs]
  verdict = SameLabel(tmp_path / "run")
  found = verdict(asked)
  assert found.tolist() == [label[a] == label[b] for a, b in pairs]
  assert not found.all()

  # Both filters that need an encoder, in a run.
  data, encoder = places.folder(tmp_path / "data", 40, 1), str(tmp_path / "encoder")
  rows = pq.read_table(data / "train").to_pylist()
  lines = (tmp_path / "train.jsonl").read_text().splitlines()
  for row, line in zip(rows, lines, strict=False):
    row["text"] = json.loads(line)["text"]
  pq.write_table(pa.Table.from_pylist(rows, SCHEMA), data / "train" / "part-0.parquet")
  asked = [
    (Source(row["id"], row["text"]), Candidate(backwards(row["text"])))
    for row in places.read(data).to_pylist()
  ]
  plain = parse_config(config())[0]  # what the other filters let through
  asked = [pair for pair in asked if not drop_reason(*pair, plain)]
  near = Similarity(encoder, 0.0)
  cosine = np.array(
    [a @ b for a, b in (near.embed([s.text, v.text]) for s, v in asked)]
  )
  least = float(np.median(cosine))
  far, flips = cosine < least - 1e-6, ~verdict(asked)
  filters = {"least_similarity": least - 1e-6, "similarity_encoder": encoder}
  filters["label_check"] = str(tmp_path / "run")
  counts = run(config(attempts=1, **filters), data)["counts"]
  assert counts["dropped: not similar"] == far.sum() > 0
  assert counts.get("dropped: label flips", 0) == (flips & ~far).sum()
  assert counts["views"] == (~far & ~flips).sum() > 0
