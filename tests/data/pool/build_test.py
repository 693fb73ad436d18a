"""A token store is made in parts that survive kills and damage."""

import contextlib
import itertools
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import scaling
from ssljax.data.pool import build, hashes, index
from ssljax.data.pool.build import Source
from ssljax.data.pool.shard import Encoding
from ssljax.errors import RunError, UserError
from tests import runs, tiny
from tests.data.pool import pools


@pytest.fixture
def place(tmp_path, monkeypatch):
  """A folder with two files of 70 rows in all, in shards of 16 rows."""
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(build, "ROWS", 16)
  rng = np.random.default_rng(0)
  for name, rows in (("a", 40), ("b", 30)):
    pools.write(tmp_path / f"{name}.jsonl", pools.random_rows(rng, name, rows))
  encoder = tmp_path / "encoder"
  encoder.mkdir()
  vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tiny.WORDS]
  (encoder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
  (encoder / "tokenizer_config.json").write_text(
    '{"tokenizer_class": "BertTokenizer", "do_lower_case": true}'
  )
  (encoder / "config.json").write_text(f'{{"vocab_size": {len(vocabulary)}}}')
  return tmp_path


@pytest.fixture
def alone(monkeypatch):
  """Makes all shards in this process, in the order in which processes make them."""
  monkeypatch.setattr(build, "LARGE", 0)
  monkeypatch.setattr(build, "_start_pool", pools.InThisProcess)


def open_store(place, length=16, verify=False):
  sources = [Source(next(place.glob(f"{name}.*")), name) for name in "ab"]
  encoding = Encoding(place / "encoder", length, "exact", "hf")
  return build.open_store(sources, encoding, verify)


def shards(store):
  return sorted(path for path in store.folder.glob("0*") if path.is_dir())


def content(store):
  return store.index.sha256, [store.text(i)[0].tolist() for i in range(len(store))]


def flip(path):
  data = bytearray(path.read_bytes())
  data[-100] ^= 1
  path.write_bytes(data)


def test_a_damaged_part_is_named_and_made_again(place, alone, capsys):
  store = open_store(place)
  before, names = content(store), shards(store)
  assert [path.name for path in names] == [
    *(f"00000-00000{k}" for k in range(3)),
    *(f"00001-00000{k}" for k in range(2)),
  ]
  made = {path: path.stat().st_mtime_ns for path in names}
  flip(names[1] / "arrays.npy")
  assert content(open_store(place)) == before
  assert f"{names[1]}: damaged" in capsys.readouterr().err
  again = {path: path.stat().st_mtime_ns for path in names}
  assert [path for path in names if made[path] != again[path]] == [names[1]]
  flip(store.folder / "index" / "label.npy")
  assert content(open_store(place)) == before
  assert "index: damaged" in capsys.readouterr().err


def test_a_change_that_keeps_size_and_times_is_found_with_verify(
  place, alone, capsys, monkeypatch
):
  store = open_store(place)
  monkeypatch.setattr(build.sealed, "stamp", lambda path: [0, 0, 0])
  for path in (*shards(store), store.folder / "index"):  # they get this stamp
    build.shard.read(path)
  index.read(store.folder / "index")
  flip(shards(store)[0] / "arrays.npy")
  open_store(place)
  assert "damaged" not in capsys.readouterr().err
  open_store(place, verify=True)
  assert "00000-000000: damaged" in capsys.readouterr().err


def test_a_store_belongs_to_content_and_settings(place, alone):
  store = open_store(place)
  assert open_store(place).folder == store.folder
  assert open_store(place, length=12).folder != store.folder
  rows = (place / "a.jsonl").read_text()
  (place / "a.jsonl").write_text(rows.replace("bread", "bake"))
  assert open_store(place).folder != store.folder
  (place / "a.jsonl").write_text(rows)
  assert open_store(place).folder == store.folder
  with (place / "encoder" / "vocab.txt").open("a") as file:
    file.write("more\n")
  (place / "encoder" / "config.json").write_text('{"vocab_size": 99}')
  assert open_store(place).folder != store.folder


def test_hashes_are_read_again_only_if_a_file_changes(place, monkeypatch):
  path = place / "a.jsonl"
  monkeypatch.setattr(hashes, "SETTLED", 0)
  first, data = hashes.file_sha256(path), path.read_bytes()
  monkeypatch.setattr(hashes.hashlib, "file_digest", None)
  assert hashes.file_sha256(path) == first
  with pytest.raises(TypeError):
    hashes.file_sha256(path, verify=True)
  path.write_bytes(data)  # its times change
  with pytest.raises(TypeError):
    hashes.file_sha256(path)


def test_ids_must_differ_in_all_files(place, alone):
  rows = [{"id": f"x{i}", "text": "kind", "label": 0} for i in range(40)]
  pools.write(place / "a.jsonl", rows)
  pools.write(place / "b.jsonl", [{"text": "calm"}, rows[39]])
  with pytest.raises(UserError, match=r"b.jsonl, line 2: id 'x39' .*a.jsonl, line 40"):
    open_store(place)


@pytest.mark.parametrize("file", ["a.jsonl", "b.jsonl", "a.parquet"])
def test_a_store_has_no_token_of_other_content(place, alone, monkeypatch, file):
  """One file changes, the command is killed, and the file gets its old content back."""
  path = place / file
  if path.suffix == ".parquet":
    rows = map(json.loads, (place / "a.jsonl").read_text().splitlines())
    table = pa.Table.from_pylist([{"text": row["text"]} for row in rows])
    change = lambda: pq.write_table(table.slice(1), path, row_group_size=4)
    pq.write_table(table, path, row_group_size=4)
    (place / "a.jsonl").unlink()
  else:
    text = path.read_text()
    change = lambda: path.write_text(text.replace("bread", "bake"))
  whole = path.read_bytes()
  read, made = build.read_chunks, []

  def read_changed(*arguments):
    """The file changes when it's opened, or when its second part is read."""
    if arguments[0] != path:
      yield from read(*arguments)
      return
    unchanged = 1 if path.suffix == ".parquet" else 0
    yield from itertools.islice(read(*arguments), unchanged)
    change()
    yield from itertools.islice(read(*arguments), unchanged, None)

  def make(task):
    if len(made) == 4:
      raise RuntimeError("killed")
    make_shard(task)
    made.append(task)

  make_shard = build._make_shard
  with monkeypatch.context() as patch:
    patch.setattr(build, "read_chunks", read_changed)
    patch.setattr(build, "_make_shard", make)
    with pytest.raises(RunError, match=f"{file}: changed while it was read"):
      open_store(place)
  path.write_bytes(whole)
  found = content(open_store(place))
  monkeypatch.setenv("SSLJAX_CACHE", str(place / "other"))
  assert found == content(open_store(place))


@pytest.mark.slow
def test_processes_make_the_same_store(place, monkeypatch):
  arrays = lambda store: {
    path.relative_to(store.folder): path.read_bytes()
    for path in store.folder.rglob("*.npy")
  }
  in_this_process = arrays(open_store(place))
  monkeypatch.setenv("SSLJAX_CACHE", str(place / "other"))
  monkeypatch.setattr(build, "LARGE", 0)
  monkeypatch.setattr(build, "_run_here", None)
  assert arrays(open_store(place)) == in_this_process


@pytest.mark.faults
def test_a_killed_command_continues(place):
  rng = np.random.default_rng(1)
  rows = pools.random_rows(rng, "train", 3500)
  many = [row | {"id": f"{k}-{i}"} for k in range(30) for i, row in enumerate(rows)]
  pools.write(place / "data" / "train.jsonl", many)
  for name in ("val", "test"):
    own = [{"text": f"{name} {i}", "label": i % 2} for i in range(4)]
    pools.write(place / "data" / f"{name}.jsonl", own)
  command = ("ssljax.data.tokenize", f"--data={place}/data")
  command += (f"--encoder={place}/encoder", "--max_length=16")
  env = runs.environment(place) | {"SSLJAX_CACHE": str(place / "cache")}
  other = env | {"SSLJAX_CACHE": str(place / "whole")}
  whole = runs.command(*command, env=other, fresh=True)
  assert whole.returncode == 0, whole.stderr
  process = runs.Command(*command, env=env, fresh=True)
  found = []
  while not found and process.poll() is None:
    found = [*place.glob("cache/pools/*/0*/done")]
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert not [*place.glob("cache/pools/*/index")]
  made = {
    path: os.stat(path).st_mtime_ns for path in place.glob("cache/pools/*/0*/done")
  }
  assert 0 < len(made) < 4  # of 4 shards
  done = runs.command(*command, env=env, fresh=True)
  assert done.returncode == 0, done.stderr
  assert all(os.stat(path).st_mtime_ns == time_ for path, time_ in made.items())
  assert done.stdout.replace("cache/", "whole/") == whole.stdout
  assert re.search(r"train: 105000 texts", done.stdout)
  files = lambda name: {
    path.relative_to(place / name): path.read_bytes()
    for path in (place / name / "pools").rglob("*.npy")
  }
  assert files("cache") == files("whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_does_not_wait_for_the_processes(place, monkeypatch, number):
  monkeypatch.setattr(build, "LARGE", 0)

  class Started(build._Task):
    """A task that the processes are never done with."""

    def __reduce__(self):
      return time.sleep, (300,)

  task = Started(*[None] * len(build._Task._fields))
  tasks = lambda: ((task, 1) for _ in range(4))
  timer = threading.Timer(1.0, os.kill, (os.getpid(), number))
  began = time.monotonic()
  with contextlib.ExitStack() as stack:
    timer.start()
    with pytest.raises((KeyboardInterrupt, SystemExit)) as ended:
      list(build._run(tasks(), stack))
  assert time.monotonic() - began < 20
  assert not multiprocessing.active_children()
  if number == signal.SIGTERM:
    assert ended.value.code == 143


def test_a_row_takes_the_bytes_of_the_formula(place, alone, monkeypatch):
  """See docs/scaling.md."""
  monkeypatch.setattr(build, "ROWS", 4096)
  text = lambda i: " ".join(tiny.WORDS[i % 7 :])
  rows = [
    {
      "text": text(i),
      "label": i % 7 % 2,
      "views": [{"kind": "llm", "text": text(i + 1)}],
    }
    for i in range(4000)
  ]
  pools.write(place / "a.jsonl", rows)
  (place / "b.jsonl").write_text('{"text": "calm"}\n')
  store = open_store(place)
  sizes = [
    path.stat().st_size
    for path in store.folder.rglob("*.npy")
    if not path.name.startswith("table.")
  ]
  tokens = np.mean(
    [len(store.text(i)[0]) + len(store.view(i, 0)[0]) for i in range(70)]
  )
  expected = 4000 * scaling.store_bytes(tokens, 2)
  assert 0 < sum(sizes) - expected < 12_000  # headers, mostly


def test_no_mapped_page_of_a_store_stays_in_memory(place):
  store = open_store(place)
  before = content(store)

  def resident():  # KiB of the mapped files
    path, total = "", 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
      if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
        path = line.split(maxsplit=5)[-1]
      elif line.startswith("Rss:") and path.startswith(str(store.folder)):
        total += int(line.split()[1])
    return total

  assert resident() > 0
  store.drop_pages()
  assert resident() == 0
  assert content(store) == before
