"""Runs over small folders: the views, the report, and what stays unchanged."""

import errno
import json

import pytest

from ssljax.augment import local_runner, report
from ssljax.augment.query import CachedEngine
from ssljax.augment.run import run
from ssljax.errors import RunError, UserError
from tests import runs, tiny
from tests.augment import command, folders
from tests.augment.command import make_config
from tests.augment.folders import TEXTS, hash_files, leftovers, read_views
from tests.data.records import flips


def test_every_text_gets_its_view_and_nothing_else_changes(data):
  before = folders.read_train(data)
  others = {k: v for k, v in hash_files(data).items() if not k.startswith("train")}
  result = run(make_config(), data)
  after = folders.read_train(data)
  assert after.schema == before.schema
  assert after.drop_columns("views") == before.drop_columns("views")
  for old, new in zip(before.to_pylist(), after.to_pylist(), strict=True):
    assert new["views"][:-1] == (old["views"] or [])
    assert new["views"][-1] == {
      "kind": "mine",
      "text": folders.reverse_words(new["text"]),
      "response": None,
      "origin": result["origin"],
    }
  assert others.items() <= hash_files(data).items()
  assert leftovers(data) == set()
  parts = sorted(p.name for p in (data / "train").iterdir())
  assert parts == ["part-0.parquet", "part-1.parquet"]
  written = folders.read_report(data)
  assert written["origins"][result["origin"]]["engine"] == "custom"
  assert written["counts"]["views"] == TEXTS


def test_processes_that_cannot_be_started_are_an_error_with_advice(data, monkeypatch):
  def full(*_):
    raise OSError(errno.ENOSPC, "no space")

  monkeypatch.setattr(local_runner, "ProcessPoolExecutor", full)
  before = hash_files(data)
  with pytest.raises(RunError, match=r"no space.*--config.workers=1"):
    run(make_config(stored=False, workers=2, shard=2), data)
  assert hash_files(data) == before


def test_kinds_coexist_and_views_of_a_kind_are_replaced_or_added(data):
  run(make_config(), data)
  run(make_config("three_views", kind="other", views=2), data)
  assert all(len(texts) == 1 for texts in read_views(data))
  assert all(len(texts) == 2 for texts in read_views(data, "other"))
  run(make_config("three_views", views=2), data)
  assert all(len(texts) == 2 for texts in read_views(data))
  for _ in range(2):  # copies of existing views are dropped
    result = run(make_config(replace=False), data)
    reasons = {row["reason"] for row in folders.read_dropped(data)}
    assert reasons == {"copy of another view"}
    assert result["counts"]["texts without a further view"] == TEXTS
    assert "fallbacks" not in result["counts"]
    assert all(len(texts) == 2 for texts in read_views(data))
  run(make_config("rotate", replace=False), data)
  assert all(len(set(texts)) == 3 for texts in read_views(data))
  assert len(folders.read_report(data)["origins"]) == 3
  assert all("an older view" in texts for texts in read_views(data, "old")[::4])


def test_only_a_changed_setting_of_the_engine_queries_it_again(data):
  first = run(make_config(), data)
  files = hash_files(data)
  assert len(command.queries(data)) == TEXTS
  second = run(make_config(), data)
  assert len(command.queries(data)) == TEXTS
  assert second["counts"]["answers from the cache"] == TEXTS
  changed = hash_files(data).items() ^ files.items()
  assert {path for path, _ in changed} == {"augment/mine.json"}
  third = run(make_config(version="2"), data)
  assert len(command.queries(data)) == 2 * TEXTS
  assert third["origin"] != first["origin"]
  origins = folders.read_report(data)["origins"]
  assert set(origins) == {first["origin"], third["origin"]}
  run(make_config(most_ratio=2.0), data)  # a filter
  assert len(command.queries(data)) == 2 * TEXTS


def test_rows_with_the_same_text_share_a_query(data):
  rows = [row | {"text": "bake one more loaf"} for row in folders.make_rows(8)]
  for part in (0, 1):
    folders.write_part(data / "train" / f"part-{part}.parquet", rows)
  run(make_config(), data)
  assert command.queries(data) == ["0 bake one more loaf"]
  assert read_views(data) == [["loaf more one bake"]] * 16


def test_dropped_candidates_are_replaced_and_recorded_with_a_reason(data):
  result = run(make_config("refuse_even"), data)
  assert result["counts"]["views"] == TEXTS
  assert result["counts"]["asked for candidate 2"] == TEXTS // 2
  assert result["counts"]["dropped: refusal"] == TEXTS // 2
  dropped = folders.read_dropped(data)
  assert len(dropped) == TEXTS // 2
  assert dropped[0] == {
    "id": "row-0",
    "number": 0,
    "reason": "refusal",
    "text": "I cannot help with that.",
    "response": None,
    "origin": result["origin"],
  }
  queries = command.queries(data)
  assert len(queries) == len(set(queries)) == TEXTS + TEXTS // 2


def test_dropped_candidates_are_sorted_by_row_whatever_the_order_of_answers(
  data, monkeypatch
):
  query = CachedEngine.__call__
  backward = lambda *arguments: reversed(list(query(*arguments)))
  monkeypatch.setattr(CachedEngine, "__call__", backward)
  run(make_config("refuse_even"), data)
  ids = [row["id"] for row in folders.read_dropped(data)]
  assert ids == [f"row-{i}" for i in range(0, TEXTS, 2)]


def test_a_link_to_a_folder_stays_a_link(data, tmp_path):
  link = tmp_path / "link"
  link.symlink_to("data")
  run(make_config(), link)
  assert link.is_symlink()
  assert all(read_views(data))


def test_limit_leaves_the_other_rows_unchanged(data):
  before = folders.read_train(data)
  run(make_config(limit=11), data)
  after = folders.read_train(data)
  assert after.slice(11) == before.slice(11)
  assert [len(texts) for texts in read_views(data)] == [1] * 11 + [0] * 29
  assert len(command.queries(data)) == 11


def test_views_of_pairs_repeat_the_response(tmp_path, data):
  pairs = folders.make_folder(tmp_path / "pairs", 8, response=True)
  run(make_config(), pairs)
  for row in folders.read_train(pairs).to_pylist():
    assert row["views"][-1]["response"] == row["response"]
    assert row["views"][-1]["text"] == folders.reverse_words(row["text"])


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_the_rows(data, tmp_path):
  other = folders.make_folder(tmp_path / "other")
  for folder, workers in ((data, 1), (other, 2)):
    run(make_config("refuse_even", stored=False, workers=workers), folder)
  assert folders.read_train(data) == folders.read_train(other)
  assert folders.read_dropped(data) == folders.read_dropped(other)
  a, b = (folders.read_report(folder)["counts"] for folder in (data, other))
  assert a == b


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"views": 0}, r"config.views=0: it must be 1 or more"),
    ({"fallback": "slef"}, r"config.fallback='slef': it must be one of self, words"),
    ({"kind": "self"}, r"config.kind='self'"),
    ({"kind": "../up"}, r"config.kind"),
    ({"kind": "a" * 65}, r"config.kind"),
    ({"label_check": "/nowhere"}, r"--config.label_check: /nowhere"),
    ({"splits": ("dev",)}, r"no split 'dev'"),
    ({"splits": ()}, r"config.splits=\(\): give one or more names"),
    ({"engine": "custmo"}, r"no engine 'custmo' .* did you mean 'custom'"),
    ({"functoin": "a:b"}, r"config.functoin of engine custom; did you mean 'function'"),
    ({"function": "nowhere:f"}, r"nowhere"),
    ({"most_ratio": 0.1}, r"most_ratio=0.1: it must be above least_ratio"),
    ({"language": "xx"}, r"--config.language='xx'"),
  ],
)
def test_a_mistake_is_a_clear_error_before_anything_is_written(data, change, message):
  before = hash_files(data)
  with pytest.raises(UserError, match=message):
    run(make_config(**change), data)
  assert hash_files(data) == before
  assert leftovers(data) == set()
  assert not command.queries(data)


def test_plain_files_must_go_through_prepare(tmp_path):
  (tmp_path / "plain").mkdir()
  (tmp_path / "plain" / "train.jsonl").write_text('{"text": "bake", "label": 0}\n')
  with pytest.raises(UserError, match=r"python -m ssljax.data.prepare --source="):
    run(make_config(), tmp_path / "plain")
  with pytest.raises(UserError, match=r"no such folder"):
    run(make_config(), tmp_path / "nowhere")
  assert [p.name for p in tmp_path.iterdir()] == ["plain"]


def test_no_secret_reaches_the_report(data, monkeypatch):
  monkeypatch.setenv("SOME_API_KEY", "sesame-open")
  scrubbed = report.scrub(
    {
      "base_url": "http://me:word@host/v1?k=sesame-open",
      "api_key": "abc",
      "max_tokens": 3,
      "nested": [{"password": "p", "note": "said sesame-open twice: sesame-open"}],
    }
  )
  text = json.dumps(scrubbed)
  assert not any(secret in text for secret in ("sesame", "me:word", "abc", '"p"'))
  assert scrubbed["max_tokens"] == 3
  run(make_config(version="sesame-open"), data)
  files = [p for p in data.rglob("*") if p.is_file()]
  assert not any(b"sesame" in p.read_bytes() for p in files)


def test_a_report_holds_bytes_that_are_no_text(data):
  (data / "augment").mkdir()
  report.write(data, "mine", {"config": {"version": "a\udcffb"}})
  assert report.read(data, "mine") == {"config": {"version": "a?b"}}


@pytest.mark.slow
def test_training_uses_the_views(data, tmp_path):
  run(make_config(), data)
  (tmp_path / "encoder").mkdir()
  tiny.folder_of_encoder(tmp_path / "encoder")
  result = runs.command(
    "ssljax.main",
    f"--config={command.ROOT}/configs/fixmatch.py",
    f"--config.data={data}",
    f"--config.encoder={tmp_path}/encoder",
    "--config.strong=mine",
    "--config.labels=8",
    "--config.batch=4",
    "--config.steps=12",
    "--config.max_length=32",
    "--config.dry_run=true",
    env=runs.environment(tmp_path),
  )
  assert result.returncode == 0, result.stderr
  assert "step shape" in result.stdout + result.stderr


def test_a_part_that_loses_rows_when_read_stays_as_it_is(data):
  part = data / "train" / "part-1.parquet"
  bits = flips.losing_flips(part, content := part.read_bytes())
  flips.flip(part, content, next(bits))
  before = hash_files(data)
  with pytest.raises(UserError, match=r"part-1.parquet: cannot be read"):
    run(make_config(), data)
  assert hash_files(data) == before
