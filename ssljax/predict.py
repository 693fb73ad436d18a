"""Scores a file of texts with a trained classifier.

  python -m ssljax.predict --model=DIR --input=texts.jsonl --output=scored.jsonl \\
    --threshold=fpr_1%

`--model` is a run, or a folder of `python -m ssljax.export`. Input and output are JSONL
(the input also `.jsonl.gz`) or Parquet; `-` is standard input or output, as JSONL. Rows
come out as they were, with `score`, `flagged` and `label_name`; columns of these names
that the input has come out as `input_score` and so on. Columns of Parquet keep their
types in Parquet. Rows whose text is null, empty or white space alone get nulls, and are
counted.

A file is looked through first, and read in pieces, however large it is. The same
command goes on where it was killed, unless the input or the model has changed since:
then it begins anew. Another threshold is refused then, since no score depends on it.
Standard input cannot be read twice: nothing is known of it beforehand, a command that
was killed begins anew, and no progress is shown.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from tqdm import tqdm

from ssljax import cli
from ssljax.data.records import files
from ssljax.errors import UserError
from ssljax.inference import rows
from ssljax.inference.classifier import SafetyClassifier, has_content
from ssljax.inference.rows import Source, columns
from ssljax.inference.rows.jsonl import to_parquet
from ssljax.inference.rows.resume import Parts, folder_of, whole

PIECE = 8192  # rows read, scored and written together
LINE = 64  # the same, of standard input
KINDS = (".jsonl", ".parquet")


def define_flags() -> None:
  flags.DEFINE_string("model", None, "a run, or an exported folder", required=True)
  flags.DEFINE_string("input", None, "JSONL or Parquet file, or -", required=True)
  flags.DEFINE_string("output", None, "JSONL or Parquet file, or -", required=True)
  flags.DEFINE_string("threshold", "", "a number, or a name as fpr_1%; default 0.5")


def main() -> int:
  given = flags.FLAGS
  checked = check(given.input, given.output)  # before a model is loaded
  classifier = SafetyClassifier.load(given.model)
  print(_run(checked, Scorer(classifier, given.threshold)), file=sys.stderr)
  return 0


class Checked(NamedTuple):
  """An input that can be read from end to end, and an output that can be written."""

  source: Source
  target: Path | None  # None is standard output
  state: list[str | int]  # of the input's file, by which a change shows


def check(source: str, target: str) -> Checked:
  """Looks through the input.

  Raises:
    UserError: formats that are none of ours, no input, a row in it that cannot be read
      or that the output cannot hold; an output that is there, or cannot be written.
  """
  path = None if source == "-" else Path(source).expanduser()
  if path and files.check(path) not in KINDS:
    raise UserError(f"--input={source}: give a JSONL or Parquet file, or -")
  if path and not path.is_file():
    raise UserError(f"--input={source}: not a plain file; pipe it into --input=-")
  for flag, given, stream in (
    ("input", source, sys.stdin),
    ("output", target, sys.stdout),
  ):
    if given == "-" and stream is None:
      raise UserError(f"--{flag}=-: it is closed; name a file")
  output = None if target == "-" else _output(target)
  state = _state(path) if path else []
  suffix = files.suffix(output) if output else ".jsonl"
  found = rows.source(path, suffix, PIECE if path else LINE)
  if path:
    with _bar("check", found.total) as bar:
      for some in found.check():
        bar.update(some)
  return Checked(found, output, state)


def predict(
  classifier: SafetyClassifier, source: str, target: str, threshold: str = ""
) -> str:
  """Scores a file; see the flags. Returns what is to be said of it.

  Raises:
    UserError: as `check`; a threshold that is none, or not that of a call before that
      was killed; the output cannot be written. What was written before stays for the
      next call, of standard input in a file that the error names.
  """
  score = Scorer(classifier, threshold)
  return _run(check(source, target), score)


class Counts(NamedTuple):
  rows: int = 0
  empty: int = 0
  truncated: int = 0
  flagged: int = 0


class Scorer:
  """Texts in, scores out; counts what it saw."""

  def __init__(self, classifier: SafetyClassifier, threshold: str):
    """`threshold` as the flag has it.

    Raises:
      UserError: a threshold that is none.
    """
    self._classifier, self.model = classifier, classifier.identity
    self.threshold = None
    if threshold or len(classifier.labels) == 2:
      self.threshold = classifier.threshold(threshold or 0.5)
    self.counts = Counts()

  def __call__(self, texts: Sequence[tuple[str | None, str | None]]) -> columns.Scores:
    full = [i for i, (text, _) in enumerate(texts) if text and has_content(text)]
    found = self._classifier.logits([texts[i] for i in full])
    values, classes = self._classifier.judged(found.logits)
    out = columns.Scores(*([None] * len(texts) for _ in columns.ADDED))
    for i, value, c in zip(full, values.tolist(), classes.tolist(), strict=True):
      out.score[i] = value
      if self.threshold is not None:
        out.flagged[i] = value >= self.threshold
        c = int(out.flagged[i])
      out.label_name[i] = self._classifier.labels[c]
    seen = (len(texts), len(texts) - len(full), int(found.truncated.sum()))
    flagged = sum(map(bool, out.flagged))
    self.counts = Counts(*map(sum, zip(self.counts, (*seen, flagged), strict=True)))
    return out

  def summary(self) -> str:
    said = [f"{self.counts.rows} rows scored"]
    if self.threshold is not None:
      said.append(f"{self.counts.flagged} flagged at {self.threshold:.7g}")
    if self.counts.empty:
      said.append(f"{self.counts.empty} without a text")
    if self.counts.truncated:
      longest = self._classifier.max_length
      said.append(f"{self.counts.truncated} cut at {longest} tokens")
    return ", ".join(said)


def _output(target: str) -> Path:
  if files.suffix(Path(target)) not in KINDS or target.endswith(".gz"):
    raise UserError(f"--output={target}: give a name that ends in .jsonl or .parquet")
  path = Path(target).expanduser()
  with _writing(path):
    if path.exists():
      raise UserError(f"--output={target} exists; name another file, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()
  return path


@contextlib.contextmanager
def _writing(target: Path | str, kept: str = "name another file") -> Iterator[None]:
  try:
    yield
  except BrokenPipeError:
    raise
  except OSError as error:
    raise UserError(f"--output={target}: cannot be written ({error}); {kept}") from None


def _state(path: Path) -> list[str | int]:
  facts = path.stat()
  return [str(path.resolve()), facts.st_size, facts.st_mtime_ns]


def _run(checked: Checked, score: Scorer) -> str:
  source, target, state = checked
  if not target:
    _to_stdout(source, score)
  elif not source.path:
    _from_stdin(source, target, score)
  else:
    _in_parts(source, target, state, score)
  own = [
    f"{name} is {new}" for name, new in columns.OWN.items() if name in source.renamed
  ]
  return score.summary() + (f"; the input's own {', '.join(own)}" if own else "")


def _to_stdout(source: Source, score: Scorer) -> None:
  with _writing("-"), open(1, "wb", closefd=False) as file, _scoring(source) as bar:
    for piece in source.pieces():
      source.write(piece, score(source.texts(piece)), file)
      file.flush()
      bar.update(len(piece))


def _from_stdin(source: Source, target: Path, score: Scorer) -> None:
  """Writes JSONL beside the output; of Parquet all rows must be seen to know types."""
  lines = target.with_name(f".{target.name}.{os.getpid()}.jsonl")
  kept = ""
  try:
    with _writing(target):
      with open(lines, "wb") as file:
        for piece in source.pieces():
          source.write(piece, score(source.texts(piece)), file)
        file.flush()
        os.fsync(file.fileno())
      if source.schema is None:
        os.replace(lines, target)
      else:
        with whole(target) as file:
          to_parquet(lines, file, source.schema, PIECE)
  except UserError as error:
    if not score.counts.rows:
      raise
    kept = f"; the rows before, scored, are kept in {lines}"
    raise UserError(f"{error}{kept}") from None
  finally:
    if not kept:
      lines.unlink(missing_ok=True)


def _in_parts(
  source: Source, target: Path, state: list[str | int], score: Scorer
) -> None:
  """Scores a file into a folder beside the output, which the next call goes on with."""
  identity = {"input": state, "model": score.model}
  with _writing(target, f"what is done is kept in {folder_of(target)}"):
    parts = Parts(target, identity, score.threshold)
    score.counts = Counts(**parts.counts)
    with _scoring(source, score.counts.rows) as bar:
      for piece in source.pieces(score.counts.rows):
        write = partial(source.write, piece, score(source.texts(piece)))
        parts.add(write, score.counts._asdict())
        bar.update(len(piece))
    parts.join(partial(rows.join, schema=source.schema))


def _scoring(source: Source, done: int = 0) -> tqdm:
  return _bar("score", source.total, initial=done, disable=not source.path)


def _bar(said: str, total: int | None, **more: Any) -> tqdm:
  """Progress on standard error."""
  return tqdm(desc=said, total=total, unit="row", dynamic_ncols=True, **more)


if __name__ == "__main__":
  define_flags()
  cli.run(main)
