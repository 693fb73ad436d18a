"""Scores a file of texts with a trained classifier.

  python -m ssljax.predict --model=DIR --input=texts.jsonl --output=scored.jsonl \\
    --threshold=fpr_1%

`--model` is a run, or a folder of `python -m ssljax.export`. Input and output are JSONL
(the input also `.jsonl.gz`) or Parquet; `-` is standard input or output, as JSONL.

The rows come out unchanged with three more columns: `score`, `flagged` and
`label_name`. Input columns of these names are written as `input_score` and so on.
Parquet columns keep their types in Parquet output. Rows whose text is null, empty or
only white space get nulls, and are counted.

The whole file is checked before anything is scored, and is read in chunks, so it may be
larger than memory. After a kill, the same command continues where it stopped; if the
input or the model has changed since, it starts again. Another threshold is an error
then, since scores don't depend on it. Standard input can't be read twice: it isn't
checked first, shows no progress, and starts again after a kill.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from absl import flags

from ssljax import cli
from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.inference import rows
from ssljax.inference.classifier import SafetyClassifier, has_content
from ssljax.inference.rows import RowReader, columns
from ssljax.inference.rows.jsonl import jsonl_to_parquet
from ssljax.inference.rows.resume import OutputParts, parts_folder
from ssljax.runtime.atomic import atomic_file
from ssljax.runtime.progress import Progress

CHUNK_SIZE = 8192  # rows that are read, scored and written together
STDIN_CHUNK_SIZE = 64  # the same for standard input, whose rows may come slowly
FORMATS = (".jsonl", ".parquet")


def define_flags() -> None:
  flags.DEFINE_string("model", None, "a run, or an exported folder", required=True)
  flags.DEFINE_string("input", None, "JSONL or Parquet file, or -", required=True)
  flags.DEFINE_string("output", None, "JSONL or Parquet file, or -", required=True)
  flags.DEFINE_string(
    "threshold", "", "a number from 0 to 1, or a name such as fpr_1%; default 0.5"
  )


def main() -> int:
  values = flags.FLAGS
  task = check_input(values.input, values.output)  # before the model is loaded
  classifier = SafetyClassifier.load(values.model)
  print(_run(task, Scorer(classifier, values.threshold)), file=sys.stderr)
  return 0


def predict(
  classifier: SafetyClassifier, source: str, target: str, threshold: str = ""
) -> str:
  """Scores a file; see the module's docstring.

    classifier = SafetyClassifier.load("runs/demo")
    print(predict(classifier, "texts.jsonl", "scored.parquet", "fpr_1%"))

  Args:
    source: JSONL or Parquet file, or "-" for standard input.
    target: JSONL or Parquet file, or "-" for standard output.
    threshold: a number or the name of a threshold; by default 0.5 with two classes.

  Returns:
    A summary, such as "50 rows scored, 3 flagged at 0.5".

  Raises:
    UserError: see `check_input`; the threshold is invalid, or differs from that of an
      unfinished earlier call; the output can't be written. Rows scored so far are kept
      for the next call, or with standard input, in a file that the error names.
  """
  scorer = Scorer(classifier, threshold)
  return _run(check_input(source, target), scorer)


class Task(NamedTuple):
  """An input that was checked, and an output that can be written."""

  reader: RowReader
  target: Path | None  # None for standard output
  fingerprint: list[str | int]  # of the input file, to notice changes


def check_input(source: str, target: str) -> Task:
  """Checks the whole input, and that the output can be written.

  Raises:
    UserError: an unsupported format; the input doesn't exist, a row can't be read, or
      the output can't hold it; the output exists already, or can't be written.
  """
  path = None if source == "-" else Path(source).expanduser()
  if path and files.check_format(path) not in FORMATS:
    raise UserError(f"--input={source}: give a JSONL or Parquet file, or -")
  if path and not path.is_file():
    raise UserError(f"--input={source}: not a regular file; pipe it into --input=-")
  if source == "-" and sys.stdin is None:
    raise UserError("--input=-: standard input is closed; name a file")
  if target == "-" and sys.stdout is None:
    raise UserError("--output=-: standard output is closed; name a file")
  output = None if target == "-" else _check_output(target)
  fingerprint = _fingerprint(path) if path else []
  suffix = files.suffix(output) if output else ".jsonl"
  reader = rows.open_reader(path, suffix, CHUNK_SIZE if path else STDIN_CHUNK_SIZE)
  if path:
    with Progress(reader.total, "row", label="checking") as progress:
      for count in reader.check():
        progress.update(count)
  return Task(reader, output, fingerprint)


class Counts(NamedTuple):
  rows: int = 0
  empty: int = 0
  truncated: int = 0
  flagged: int = 0


class Scorer:
  """Maps texts to score columns, and counts them."""

  def __init__(self, classifier: SafetyClassifier, threshold: str):
    """`threshold` is the value of the flag.

    Raises:
      UserError: the threshold is invalid.
    """
    self._classifier, self.model = classifier, classifier.identity
    self.threshold = None
    if threshold or len(classifier.labels) == 2:
      self.threshold = classifier.threshold(threshold or 0.5)
    self.counts = Counts()

  def __call__(
    self, texts: Sequence[tuple[str | None, str | None]]
  ) -> columns.ScoreColumns:
    scored = [i for i, (text, _) in enumerate(texts) if text and has_content(text)]
    output = self._classifier.logits([texts[i] for i in scored])
    scores, classes = self._classifier.scores_and_classes(output.logits)
    result = columns.ScoreColumns(*([None] * len(texts) for _ in columns.ADDED))
    for i, score, label in zip(scored, scores.tolist(), classes.tolist(), strict=True):
      result.score[i] = score
      if self.threshold is not None:
        result.flagged[i] = score >= self.threshold
        label = int(result.flagged[i])
      result.label_name[i] = self._classifier.labels[label]
    counts = Counts(
      rows=len(texts),
      empty=len(texts) - len(scored),
      truncated=int(output.truncated.sum()),
      flagged=sum(map(bool, result.flagged)),
    )
    self.counts = Counts(*map(sum, zip(self.counts, counts, strict=True)))
    return result

  def summary(self) -> str:
    parts = [f"{self.counts.rows} rows scored"]
    if self.threshold is not None:
      parts.append(f"{self.counts.flagged} flagged at {self.threshold:.7g}")
    if self.counts.empty:
      parts.append(f"{self.counts.empty} without a text")
    if self.counts.truncated:
      limit = self._classifier.max_length
      parts.append(f"{self.counts.truncated} cut at {limit} tokens")
    return ", ".join(parts)


def _check_output(target: str) -> Path:
  if files.suffix(Path(target)) not in FORMATS or target.endswith(".gz"):
    raise UserError(f"--output={target}: give a name that ends in .jsonl or .parquet")
  path = Path(target).expanduser()
  with _write_errors(path):
    if path.exists():
      raise UserError(f"--output={target} exists; name another file, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()
  return path


@contextlib.contextmanager
def _write_errors(
  target: Path | str, hint: str = "name another file"
) -> Iterator[None]:
  """Turns the errors of writing into a UserError."""
  try:
    yield
  except BrokenPipeError:
    raise
  except OSError as error:
    raise UserError(f"--output={target}: cannot be written ({error}); {hint}") from None


def _fingerprint(path: Path) -> list[str | int]:
  stat = path.stat()
  return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def _run(task: Task, scorer: Scorer) -> str:
  reader, target, fingerprint = task
  if not target:
    _score_to_stdout(reader, scorer)
  elif not reader.path:
    _score_stdin(reader, target, scorer)
  else:
    _score_in_parts(reader, target, fingerprint, scorer)
  renamed = [
    f"{name} is {new_name}"
    for name, new_name in columns.RENAMED.items()
    if name in reader.renamed
  ]
  if not renamed:
    return scorer.summary()
  return f"{scorer.summary()}; the input's own {', '.join(renamed)}"


def _score_to_stdout(reader: RowReader, scorer: Scorer) -> None:
  with (
    _write_errors("-"),
    open(1, "wb", closefd=False) as file,
    _scoring_progress(reader) as progress,
  ):
    for chunk in reader.chunks():
      reader.write(chunk, scorer(reader.texts(chunk)), file)
      file.flush()
      progress.update(len(chunk))


def _score_stdin(reader: RowReader, target: Path, scorer: Scorer) -> None:
  """Writes JSONL beside the output first: Parquet types are known only at the end.

  This is no atomic_file, since the rows that were scored before an error are kept.
  """
  lines = target.with_name(f".{target.name}.{os.getpid()}.jsonl")
  kept = ""
  try:
    with _write_errors(target):
      with open(lines, "wb") as file:
        for chunk in reader.chunks():
          reader.write(chunk, scorer(reader.texts(chunk)), file)
        file.flush()
        os.fsync(file.fileno())
      if reader.schema is None:
        os.replace(lines, target)
      else:
        with atomic_file(target) as file:
          jsonl_to_parquet(lines, file, reader.schema, CHUNK_SIZE)
  except UserError as error:
    if not scorer.counts.rows:
      raise
    kept = f"; the rows scored before it are in {lines}"
    raise UserError(f"{error}{kept}") from None
  finally:
    if not kept:
      lines.unlink(missing_ok=True)


def _score_in_parts(
  reader: RowReader, target: Path, fingerprint: list[str | int], scorer: Scorer
) -> None:
  """Scores a file into a folder beside the output; the next call continues from it."""
  identity = {"input": fingerprint, "model": scorer.model}
  with _write_errors(target, f"finished rows are kept in {parts_folder(target)}"):
    parts = OutputParts(target, identity, scorer.threshold)
    scorer.counts = Counts(**parts.counts)
    with _scoring_progress(reader, scorer.counts.rows) as progress:
      for chunk in reader.chunks(scorer.counts.rows):
        write = partial(reader.write, chunk, scorer(reader.texts(chunk)))
        parts.add(write, scorer.counts._asdict())
        progress.update(len(chunk))
    parts.join(partial(rows.join_parts, schema=reader.schema))


def _scoring_progress(reader: RowReader, done: int = 0) -> Progress:
  active = reader.path is not None
  return Progress(reader.total, "row", done, active, label="scoring")


if __name__ == "__main__":
  define_flags()
  cli.run(main)
