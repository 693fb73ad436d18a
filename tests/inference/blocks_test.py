"""Blocks and parts of `predict`: they follow the time, and the output does not."""

import importlib
from pathlib import Path

import pytest

from ssljax.inference.rows import columns, open_rows
from ssljax.inference.rows.blocks import cut_blocks
from ssljax.inference.rows.resume import OutputParts
from tests.scored import make_rows, write_file

predict = importlib.import_module("ssljax.predict")  # ssljax.predict is a function


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
  monkeypatch.setattr(predict, "CHUNK_SIZE", 16)


@pytest.mark.parametrize("source", ["in.jsonl", "in.parquet"])
@pytest.mark.parametrize("tokens", [1, 20, 45, 10_000])
def test_blocks_depend_only_on_the_rows(tmp_path, source, tokens):
  path = write_file(tmp_path / source, make_rows(50))

  def cut(done):
    reader = open_rows(Path(path), columns.Layout(".jsonl"), 16)
    return [
      ([text for text, _ in block.texts], block.begin, block.is_last)
      for block in cut_blocks(reader, 16, tokens, 32, done)
    ]

  blocks = cut(0)
  assert [text for texts, *_ in blocks for text in texts] == [
    row["text"] for row in make_rows(50)
  ]
  assert [last for *_, last in blocks].count(True) == 4
  if tokens in (1, 10_000):
    assert {len(texts) for texts, *_ in blocks} == ({1} if tokens == 1 else {16, 2})
  done = 0
  for i, (texts, *_) in enumerate(blocks):
    assert cut(done) == blocks[i:]
    done += len(texts)
  assert cut(5)[0][0][-1] in {texts[-1] for texts, *_ in blocks}  # inside a block


def test_long_texts_count_as_truncated_ones(tmp_path):
  path = write_file(tmp_path / "in.jsonl", [{"text": "calm " * 1000}] * 8)
  reader = open_rows(Path(path), columns.Layout(".jsonl"), 16)
  assert [len(block.texts) for block in cut_blocks(reader, 16, 64, 32)] == [2] * 4


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("kills", [1, 3, 6])
def test_the_output_does_not_depend_on_when_rows_are_saved(
  classifier, tmp_path, monkeypatch, suffix, kills
):
  rows = [row | {"text": row["text"] or ""} for row in make_rows(60)]
  rows = [{"text": row["text"], "n": str(i)} for i, row in enumerate(rows)]
  source = tmp_path / f"in.{suffix}"
  if suffix == "csv":
    source.write_text("text,n\n" + "".join(f"{r['text']},{r['n']}\n" for r in rows))
  else:
    write_file(source, rows)
  monkeypatch.setattr(type(classifier), "block_tokens", 20)
  predict.predict(classifier, source, tmp_path / f"whole.{suffix}")
  monkeypatch.setattr(predict, "SAVE_EVERY", 0.0)  # after each block
  output, add, left = tmp_path / f"out.{suffix}", OutputParts.add, []

  def add_or_die(*arguments):
    add(*arguments)
    left.pop()
    if not left:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(OutputParts, "add", add_or_die)
    for _ in range(kills):
      left += [None] * 2
      with pytest.raises(KeyboardInterrupt):
        predict.predict(classifier, source, output)
  parts = len([*(tmp_path / f".out.{suffix}.parts").glob("0*")])
  assert parts == 2 * kills
  predict.predict(classifier, source, output)
  assert output.read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()


def test_rows_are_saved_when_time_has_passed(classifier, tmp_path, monkeypatch):
  monkeypatch.setattr(predict, "CHUNK_SIZE", 1000)
  monkeypatch.setattr(type(classifier), "block_tokens", 1)  # each row is a block
  source = write_file(tmp_path / "in.jsonl", [{"text": "calm"}] * 20)
  now, score, counts = [0.0], predict.Scorer.__call__, []
  add = OutputParts.add

  def slow(self, texts):
    now[0] += 2.0
    return score(self, texts)

  monkeypatch.setattr(predict.time, "monotonic", lambda: now[0])
  monkeypatch.setattr(predict.Scorer, "__call__", slow)
  monkeypatch.setattr(
    OutputParts, "add", lambda *a: counts.append(a[-1]["rows"]) or add(*a)
  )
  predict.predict(classifier, source, tmp_path / "out.jsonl")
  assert counts == [3, 6, 9, 12, 15, 18, 20]
