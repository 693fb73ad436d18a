"""Scores a file of texts with a trained classifier.

  python -m ssljax.predict --model=DIR --input=texts.jsonl --output=scored.jsonl \\
    --threshold=fpr_1%

`--model` is a run, or a folder of `python -m ssljax.export`. Input and output are JSONL
or Parquet; `-` is standard input or output, as JSONL. Rows come out as they were, with
`score`, `flagged` and `label_name`. A file is read in pieces, however large it is;
the same command goes on where it was killed. Rows without a text get nulls, and are
counted.
"""

import contextlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
from absl import flags
from tqdm import tqdm

from ssljax import cli, jsonfile
from ssljax.data import files
from ssljax.errors import UserError
from ssljax.serving import SafetyClassifier

PIECE = 8192  # rows scored and written together
LINE = 64  # the same, of standard input
ADDED = ("score", "flagged", "label_name")
KINDS = (".jsonl", ".parquet")


def define_flags() -> None:
  flags.DEFINE_string("model", None, "a run, or an exported folder", required=True)
  flags.DEFINE_string("input", None, "JSONL or Parquet file, or -", required=True)
  flags.DEFINE_string("output", None, "JSONL or Parquet file, or -", required=True)
  flags.DEFINE_string("threshold", "", "a number, or a name as fpr_1%; default 0.5")


def main() -> int:
  given = flags.FLAGS
  check(given.input, given.output)  # before a model is loaded
  classifier = SafetyClassifier.load(given.model)
  said = predict(classifier, given.input, given.output, given.threshold)
  print(said, file=sys.stderr)
  return 0


def check(source: str, target: str) -> str:
  """The suffix of the input.

  Raises:
    UserError: formats that are none of ours, no input, or an output that is there.
  """
  kind = ".jsonl" if source == "-" else files.check(Path(source).expanduser())
  if kind not in KINDS:
    raise UserError(f"--input={source}: give a JSONL or Parquet file, or -")
  if target == "-":
    return kind
  if files.suffix(Path(target)) not in KINDS or target.endswith(".gz"):
    raise UserError(f"--output={target}: give a name that ends in .jsonl or .parquet")
  if Path(target).expanduser().exists():
    raise UserError(f"--output={target} exists; name another file, or remove it")
  return kind


def predict(
  classifier: SafetyClassifier, source: str, target: str, threshold: str = ""
) -> str:
  """Scores a file; see the flags. Returns what is to be said of it.

  Raises:
    UserError: as `check`; a threshold that is none; a row that cannot be read. What was
      written before stays for the next call.
  """
  kind, score = check(source, target), Scorer(classifier, threshold)
  if source != "-" and target != "-":
    _file(Path(source).expanduser(), kind, Path(target).expanduser(), score)
    return score.summary()
  if source == "-":
    pieces = _lines(sys.stdin, "standard input")
  else:
    pieces = _pieces(Path(source).expanduser(), 0)
  if target == "-":
    for rows in pieces:
      sys.stdout.writelines(_line(row) for row in score(rows))
      sys.stdout.flush()
    return score.summary()
  path = Path(target).expanduser()
  parts = path.with_name(f".{path.name}.{os.getpid()}")
  parts.mkdir(parents=True)
  try:
    for number, rows in enumerate(pieces):
      _put(parts / f"{number:08d}{path.suffix}", score(rows), files.suffix(path))
    _join(parts, path)
  finally:
    shutil.rmtree(parts, ignore_errors=True)
  return score.summary()


class Scorer:
  """Rows in, the same rows with ADDED out; counts what it saw."""

  def __init__(self, classifier: SafetyClassifier, threshold: str):
    """`threshold` as the flag has it.

    Raises:
      UserError: a threshold that is none.
    """
    self._classifier, self.model = classifier, classifier.identity
    self.threshold = None
    if threshold or len(classifier.labels) == 2:
      self.threshold = classifier.threshold(threshold or 0.5)
    self.rows = self.empty = self.truncated = self.flagged = 0

  def __call__(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    texts = [(row.get("text"), row.get("response")) for row in rows]
    full = [i for i, (text, _) in enumerate(texts) if text and text.strip()]
    found = self._classifier.logits([texts[i] for i in full])
    scores, classes = self._classifier.judged(found.logits)
    out = [{**row, **dict.fromkeys(ADDED)} for row in rows]
    labels = self._classifier.labels
    for i, score, c in zip(full, scores.tolist(), classes.tolist(), strict=True):
      out[i]["score"] = score
      if self.threshold is not None:
        out[i]["flagged"] = score >= self.threshold
        c = int(out[i]["flagged"])
      out[i]["label_name"] = labels[c]
    self.rows += len(rows)
    self.empty += len(rows) - len(full)
    self.truncated += int(found.truncated.sum())
    self.flagged += sum(bool(row["flagged"]) for row in out)
    return out

  def summary(self) -> str:
    said = [f"{self.rows} rows scored"]
    if self.threshold is not None:
      said.append(f"{self.flagged} flagged at {self.threshold:.4f}")
    if self.empty:
      said.append(f"{self.empty} without a text")
    if self.truncated:
      said.append(f"{self.truncated} cut at {self._classifier.max_length} tokens")
    return ", ".join(said)


def _file(source: Path, kind: str, target: Path, score: Scorer) -> None:
  """Scores a file piece by piece into a folder beside the output, then joins them."""
  parts = target.with_name(f".{target.name}.parts")
  facts = source.stat()
  identity = {
    "input": [str(source.resolve()), facts.st_size, facts.st_mtime_ns],
    "model": score.model,
    "threshold": score.threshold,
  }
  try:
    parts.mkdir(parents=True, exist_ok=True)
    _claim(parts, identity)
    done = len(list(parts.glob("[0-9]*")))
    total = _count(source, kind)
    bar = tqdm(total=total, initial=done * PIECE, unit="row", dynamic_ncols=True)
    with bar:
      for number, rows in enumerate(_pieces(source, done * PIECE), done):
        _put(parts / f"{number:08d}{target.suffix}", score(rows), files.suffix(target))
        bar.update(len(rows))
    _join(parts, target)
  except OSError as error:
    raise UserError(
      f"--output={target}: cannot be written ({error}); what is done is kept in {parts}"
    ) from None


def _claim(parts: Path, identity: dict[str, Any]) -> None:
  """Empties a folder that holds pieces of another command."""
  path = parts / "identity.json"
  same = path.exists() and json.loads(path.read_text()) == identity
  if not same:
    for old in parts.iterdir():
      old.unlink()
    jsonfile.write_json(path, identity)


def _pieces(path: Path, skip: int) -> Iterator[list[dict[str, Any]]]:
  """Rows of a file from row `skip` on, PIECE at a time."""
  found = itertools.islice(files.rows(path), skip, None)
  return _batches(((files.place(path, n), row) for n, row in found), PIECE)


def _lines(stream: TextIO, name: str) -> Iterator[list[dict[str, Any]]]:
  """Rows of JSONL, LINE at a time."""
  return _batches(_parsed(stream, name), LINE)


def _parsed(stream: TextIO, name: str) -> Iterator[tuple[str, Any]]:
  for number, line in enumerate(stream, 1):
    if line.strip():
      try:
        yield f"{name}, line {number}", json.loads(line)
      except ValueError as error:
        raise UserError(f"{name}, line {number}: not JSON ({error})") from None


def _batches(
  rows: Iterator[tuple[str, Any]], size: int
) -> Iterator[list[dict[str, Any]]]:
  """Rows without their places, each checked, `size` at a time."""
  while some := list(itertools.islice(rows, size)):
    for place, row in some:
      _check(row, place)
    yield [row for _, row in some]


def _check(row: Any, place: str) -> None:
  """A row that cannot be scored at all is a mistake; one without a text is not."""
  if not isinstance(row, dict):
    raise UserError(f"{place}: not an object with a text")
  for name in ("text", "response"):
    if not isinstance(row.get(name), str | None):
      raise UserError(f"{place}: {name}: {files.short(row[name])} should be a string")
  if "text" not in row:
    raise UserError(f"{place}: text: no such column (others: {', '.join(row)})")


def _count(path: Path, kind: str) -> int | None:
  if kind == ".parquet":
    return pq.read_metadata(path).num_rows
  if path.name.endswith(".gz"):
    return None
  with open(path, "rb") as file:
    return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 22), b""))


def _put(path: Path, rows: list[dict[str, Any]], suffix: str) -> None:
  fresh = path.with_name(f"new-{path.name}")
  if suffix == ".parquet":
    names = dict.fromkeys(name for row in rows for name in row)
    whole = [{name: row.get(name) for name in names} for row in rows]
    with _as_parquet(path):
      pq.write_table(pa.Table.from_pylist(whole), fresh, compression="zstd")
  else:
    with open(fresh, "w", encoding="utf-8") as file:
      file.writelines(map(_line, rows))
  os.replace(fresh, path)


def _line(row: dict[str, Any]) -> str:
  # What JSON does not know, as a date of a Parquet file, is written as text.
  return json.dumps(row, ensure_ascii=False, default=str) + "\n"


@contextlib.contextmanager
def _as_parquet(path: Path) -> Iterator[None]:
  """Says of values that have no common type in a column what to do."""
  try:
    yield
  except (pa.ArrowException, OverflowError) as error:
    raise UserError(
      f"{path}: the columns of the input have no Parquet type ({error}); give an "
      "--output that ends in .jsonl"
    ) from None


def _join(parts: Path, target: Path) -> None:
  """Makes one file of the pieces; the pieces go when it is there."""
  pieces, whole = sorted(parts.glob("[0-9]*")), parts / f"whole{target.suffix}"
  if files.suffix(target) == ".parquet":
    with _as_parquet(target):
      schemas = [pq.read_schema(piece) for piece in pieces]
      schema = pa.unify_schemas(schemas, promote_options="permissive")
    with pq.ParquetWriter(whole, schema, compression="zstd") as writer:
      for piece in pieces:
        writer.write_table(pq.read_table(piece).cast(schema))
  else:
    with open(whole, "wb") as file:
      for piece in pieces:
        with open(piece, "rb") as part:
          shutil.copyfileobj(part, file)
  os.replace(whole, target)
  shutil.rmtree(parts)


if __name__ == "__main__":
  define_flags()
  cli.run(main)
