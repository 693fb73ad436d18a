"""Scores a file of texts with a trained classifier.

  python -m ssljax.predict --model=DIR --input=texts.jsonl --output=scored.jsonl \\
    --threshold=fpr=1%

`--model` is a run, or a folder of `python -m ssljax.export`. Files are JSONL, CSV, TSV
or Parquet; all but Parquet may be gzipped as the input. The output may have another of
these formats. `-` means standard input or output, in JSONL. If the columns have other
names, use `--columns=text=NAME,response=NAME`; `--columns=response=` scores the text
alone.

The rows are written unchanged, with three more columns: `score`, `flagged` and
`label_name`. Input columns with these names are renamed to `input_score` and so on.
Parquet columns keep their types in Parquet output, and CSV rows their text in CSV
output. If a row's text is null, empty or only white space, the new columns are null;
the summary gives the number of such rows.

The whole file is checked before anything is scored. It is read in chunks, so it may be
larger than memory. Finished rows are saved every few seconds. After a kill, the same
command continues with them, and writes the same output. If the input or the model has
changed, it starts again. If only the threshold has changed, it reports an error and
keeps the finished scores, which are still valid. Standard input is first copied to a
temporary file in the output's folder. But from standard input to standard output,
nothing is checked first: each chunk is written as soon as it is scored.
"""

import contextlib
import hashlib
import shutil
import sys
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags

from ssljax import aims, cli
from ssljax.data.records import column_flag, files
from ssljax.errors import UserError
from ssljax.evals.classification import score_of, softmax
from ssljax.inference.classifier import SafetyClassifier, has_content
from ssljax.inference.rows import FORMATS, JsonlReader, RowReader, columns, open_rows
from ssljax.inference.rows.blocks import Block, cut_blocks
from ssljax.inference.rows.resume import (
  PROGRESS,
  OutputParts,
  parts_folder,
  remove_joined_parts,
)
from ssljax.runtime import lock
from ssljax.runtime.atomic import cannot_write
from ssljax.runtime.progress import Progress

CHUNK_SIZE = 8192  # rows that are read together
STREAM_CHUNK_SIZE = 64  # the same for pipes, where rows may arrive slowly
SAVE_EVERY = 5.0  # seconds
A_FILE = "a JSONL, CSV, TSV or Parquet file"


def define_flags() -> None:
  flags.DEFINE_string("model", None, "a run, or an exported folder", required=True)
  flags.DEFINE_string("input", None, f"{A_FILE}, or -", required=True)
  flags.DEFINE_string("output", None, f"{A_FILE}, or -", required=True)
  flags.DEFINE_string(
    "threshold", "", "a number from 0 to 1, or a name such as fpr=1%; default 0.5"
  )
  column_flag.define(columns.READ)


def main() -> int:
  values = flags.FLAGS
  mapped = column_flag.parse(values.columns, columns.READ)
  summary = predict(values.model, values.input, values.output, values.threshold, mapped)
  print(summary, file=sys.stderr)
  return 0


def predict(
  model: str | Path | SafetyClassifier,
  source: str | Path,
  target: str | Path,
  threshold: str | float = "",
  column_names: Mapping[str, str] | None = None,
) -> str:
  """Scores a file of texts, as `python -m ssljax.predict` does.

  >>> import ssljax
  >>> ssljax.predict("runs/demo", "texts.jsonl", "scored.jsonl", threshold=0.5)
  '3 rows scored, 3 flagged at 0.5'

  Args:
    model: a run, an exported folder, or a classifier.
    source: JSONL, CSV, TSV or Parquet file, or "-" for standard input in JSONL.
    target: the file to write, or "-" for standard output: the same rows with `score`,
      `flagged` and `label_name`.
    threshold: a number, or the name of a threshold such as "fpr=1%"; by default 0.5
      with two classes.
    column_names: maps "text" and "response" to the names of these columns in the file;
      "" leaves the response out.

  Returns:
    A summary, such as "50 rows scored, 3 flagged at 0.5".

  Raises:
    UserError: `check_input` raises one, the model can't be read, the threshold is
      invalid, an unfinished earlier call had another threshold, another process is
      writing the output, or the output can't be written.
    RunError: the disk is full.
  """
  with contextlib.ExitStack() as stack:
    if str(target) != "-":
      stack.enter_context(lock.exclusive(Path(target).expanduser(), "--output"))
    # All mistakes in the input are reported before the model is loaded.
    names = dict(column_names or {})
    reader, output, fingerprint = check_input(str(source), str(target), names)
    if not isinstance(model, SafetyClassifier):
      print(f"loading {model}", file=sys.stderr)
      model = SafetyClassifier.load(model)
    scorer = Scorer(model, str(threshold))
    if output:
      _score_in_parts(reader, output, fingerprint, scorer)
    else:
      _score_to_stdout(reader, scorer)
  if not reader.renamed:
    return scorer.summary()
  renamed = ", ".join(f"{name} to input_{name}" for name in reader.renamed)
  return f"{scorer.summary()}; renamed input columns: {renamed}"


def check_input(
  source: str, target: str, column_names: Mapping[str, str] | None = None
) -> tuple[RowReader, Path | None, list[Any]]:
  """Checks the whole input, and whether the output can be written.

  If the input is standard input and the output standard output, it reads nothing yet.

  Returns:
    A reader, the output's path (None for standard output), and a fingerprint of the
    input.

  Raises:
    UserError: the input doesn't exist or has an unsupported format; a row can't be
      read, or the output can't hold it; the output exists already, has an unsupported
      format, or can't be written.
  """
  path = None if source == "-" else Path(source).expanduser()
  if path and files.check_format(path) not in FORMATS:
    raise UserError(f"--input={source}: give {A_FILE}, or -")
  if path and not path.is_file():
    raise UserError(f"--input={source}: not a regular file; pipe it into --input=-")
  if source == "-" and sys.stdin is None:
    raise UserError("--input=-: standard input is closed; name a file")
  if target == "-" and sys.stdout is None:
    raise UserError("--output=-: standard output is closed; name a file")
  output = None if target == "-" else _check_output(target)
  suffix = files.suffix(output) if output else ".jsonl"
  layout = columns.Layout(suffix, column_names or {})
  if path:
    stat = path.stat()
    fingerprint = [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
    reader = open_rows(path, layout, CHUNK_SIZE)
  else:
    stream = open(0, "rb", closefd=False)  # noqa: SIM115
    if not output:
      return JsonlReader(stream, layout, STREAM_CHUNK_SIZE), None, []
    copy = tempfile.TemporaryFile(dir=output.parent)  # noqa: SIM115
    reader = JsonlReader(copy, layout, CHUNK_SIZE)
    weakref.finalize(reader, copy.close)
    with _write_errors(output):
      shutil.copyfileobj(stream, copy)
    copy.seek(0)
    fingerprint = [hashlib.file_digest(copy, "sha256").hexdigest()]
    copy.seek(0)
  if layout.columns:
    fingerprint.append(dict(layout.columns))
  with Progress(reader.total, "row", label="checking") as progress:
    for count in reader.check():
      progress.update(count)
  return reader, output, fingerprint


class Scorer:
  """Maps texts to their scores, and counts rows."""

  def __init__(self, classifier: SafetyClassifier, threshold: str):
    """Raises UserError if the threshold is invalid."""
    self.classifier, self.threshold = classifier, None
    if threshold or len(classifier.labels) == 2:
      self.threshold = classifier.threshold(threshold or 0.5)
    self.warning = classifier.warnings.get(aims.canonical(threshold))
    self.counts: Counter[str] = Counter()

  def __call__(self, texts: Sequence[tuple[str | None, str | None]]) -> columns.Values:
    scored = [i for i, (text, _) in enumerate(texts) if text and has_content(text)]
    row = lambda i: f"row {self.counts['rows'] + scored[i] + 1}"
    output = self.classifier.logits([texts[i] for i in scored], row)
    scores = score_of(softmax(output.logits, self.classifier.temperature)).tolist()
    result: columns.Values = [dict.fromkeys(columns.ADDED) for _ in texts]
    flagged = None
    for i, score, label in zip(scored, scores, output.logits.argmax(-1), strict=True):
      if self.threshold is not None:
        flagged = score >= self.threshold
        label = int(flagged)
      name = self.classifier.labels[label]
      result[i] = {"score": score, "flagged": flagged, "label_name": name}
    self.counts.update(
      rows=len(texts),
      empty=len(texts) - len(scored),
      truncated=int(output.truncated.sum()),
      unreadable=int(output.unreadable.sum()),
      flagged=sum(row["flagged"] is True for row in result),
    )
    return result

  def summary(self) -> str:
    counts = self.counts
    parts = [f"{counts['rows']} rows scored"]
    if self.threshold is not None:
      parts.append(f"{counts['flagged']} flagged at {self.threshold:.7g}")
    if counts["empty"]:
      parts.append(f"{counts['empty']} without a text")
    if counts["truncated"]:
      parts.append(f"{counts['truncated']} cut at {self.classifier.max_length} tokens")
    if counts["unreadable"]:
      parts.append(
        f"{counts['unreadable']} without a word that the model knows (their scores "
        "mean nothing)"
      )
    summary = ", ".join(parts)
    return f"{summary}; this threshold is {self.warning}" if self.warning else summary


def _check_output(target: str) -> Path:
  if files.suffix(Path(target)) not in FORMATS or target.lower().endswith(".gz"):
    raise UserError(
      f"--output={target}: give a name that ends in {', '.join(FORMATS[:-1])} or "
      f"{FORMATS[-1]}"
    )
  path = Path(target).expanduser()
  with _write_errors(path):
    if path.exists():
      remove_joined_parts(path)
      raise UserError(f"--output={target} exists; name another file, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()
  return path


@contextlib.contextmanager
def _write_errors(target: Path | str) -> Iterator[None]:
  """Turns write errors into a UserError, or into a RunError if the disk is full."""
  try:
    yield
  except BrokenPipeError:
    raise
  except OSError as error:
    parts = parts_folder(Path(target))
    kept = f"; finished rows are kept in {parts}" if (parts / PROGRESS).exists() else ""
    raise cannot_write(
      f"--output={target}", error, f"name another file{kept}"
    ) from None


def _score_to_stdout(reader: RowReader, scorer: Scorer) -> None:
  active = reader.total is not None
  chunk_size = CHUNK_SIZE if active else STREAM_CHUNK_SIZE
  with (
    _write_errors("-"),
    open(1, "wb", closefd=False) as file,
    _show_progress(reader.total, 0, active) as progress,
  ):
    for block in _cut_blocks(reader, scorer, chunk_size):
      rows = reader.part(block.chunk, block.begin, block.end)
      reader.write(rows, scorer(block.texts), file)
      file.flush()
      progress.update(len(block.texts))


def _score_in_parts(
  reader: RowReader, target: Path, fingerprint: list[Any], scorer: Scorer
) -> None:
  """Scores a file in parts. If a call is interrupted, the next one continues."""
  identity = {"input": fingerprint, "model": scorer.classifier.identity}
  with _write_errors(target):
    parts = OutputParts(target, identity, scorer.threshold)
    scorer.counts.update(parts.counts)
    done = scorer.counts["rows"]
    with _show_progress(reader.total, done) as progress:
      values: columns.Values = []  # of the rows that aren't saved yet
      saved = time.monotonic()
      for block in _cut_blocks(reader, scorer, CHUNK_SIZE, done):
        values += scorer(block.texts)
        if block.is_last or time.monotonic() - saved >= SAVE_EVERY:
          rows = reader.part(block.chunk, block.end - len(values), block.end)
          parts.add(partial(reader.write, rows, values), dict(scorer.counts))
          values, saved = [], time.monotonic()
        progress.update(len(block.texts))
    parts.join(reader.schema, reader.head)


def _cut_blocks(
  reader: RowReader, scorer: Scorer, chunk_size: int, done: int = 0
) -> Iterator[Block]:
  tokens, max_length = scorer.classifier.block_tokens, scorer.classifier.max_length
  return cut_blocks(reader, chunk_size, tokens, max_length, done)


def _show_progress(total: int | None, done: int, active: bool = True) -> Progress:
  progress = Progress(total, "row", done, active=active, label="scoring")
  if total != done:
    progress.note("the first rows take longer, while the model is compiled")
    progress.update(0)  # shows the first line now
  return progress


if __name__ == "__main__":
  define_flags()
  cli.run(main)
