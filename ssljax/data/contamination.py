"""Finds texts of train that stand, exactly or nearly, in data meant for testing.

  python -m ssljax.data.contamination --data=FOLDER
  python -m ssljax.data.contamination --data=FOLDER --against=other_test.jsonl

Compared are the rows of train, labelled or not, and their stored views, with the
folder's own validation and test, and with each file of `--against`. Pairs are compared
as pairs; where either side has no response, by the prompt alone. Exact is what `alike`
calls the same; near is a Jaccard similarity of character 5-grams, punctuation apart, of
at least `--threshold`, found by MinHash (a pair at the threshold is missed once in a
thousand times, a nearer one less often) and then computed. Exit code 0 if nothing was
found, 1 if something was.
"""

import tempfile
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from absl import flags

from ssljax import cli
from ssljax.data import prepare
from ssljax.data.dedup import exact as overlap
from ssljax.data.dedup import normalize
from ssljax.data.records import records, split_files
from ssljax.data.records.records import Records
from ssljax.errors import UserError
from ssljax.runtime import json_files

# Other programs have flags of these names, and a process may import several.
flags.DEFINE_string(
  "data",
  None,
  "folder, files or named source with a train split",
  required=True,
  allow_override=True,
)
flags.DEFINE_multi_string(
  "against", [], "file of texts to compare with, labelled or not; repeatable"
)
flags.DEFINE_float("threshold", 0.6, "similarity from which on two texts are near")
flags.DEFINE_string(
  "output", "", "JSON file for the ids of all that was found", allow_override=True
)

SHOWN = 5  # pairs of ids printed for each kind of finding
PERMUTATIONS = 128
MISSED = 1e-3  # share of the pairs at the threshold that MinHash may not see
GRAM = 5  # characters
BATCH = 4096  # rows of train that are Python objects at once


class Found(NamedTuple):
  """A text of train that is, or nearly is, a text of `other`."""

  id: str  # row of train
  view: str  # kind of the view, "" for the text itself
  other: str  # which set
  other_id: str
  exact: bool  # the same, as `alike` has it
  similarity: float  # 1.0 where exact


def find(
  train: Records, others: Mapping[str, Records], threshold: float
) -> list[Found]:
  """All overlaps: of each text of train and other set the exact, else nearest one."""
  indices = {name: _Index(other, threshold) for name, other in others.items()}
  found = []
  for id, view, text, response in _texts(train):
    own = Sketches(text, response)
    for name, index in indices.items():
      row, exact, similarity = index.nearest(own)
      if row is not None:
        found.append(Found(id, view, name, index.ids[row], exact, similarity))
  return found


class Sketches:
  """A text of train: its grams and MinHash, made once, whatever it is compared with."""

  def __init__(self, text: str, response: str | None):
    self.text, self.response = text, response or None
    self.prompt = _Sketch(text)
    self.pair = _Sketch(f"{text} {response}") if response else None


class _Sketch:
  def __init__(self, text: str):
    self.grams = grams(text)
    self.hashes = minhash(self.grams)


class _Index:
  """The texts of a set: by digest, and by MinHash the prompts and the pairs."""

  def __init__(self, other: Records, threshold: float):
    self.ids = other.column("id")
    self._exact = overlap.known([other])
    self._pairs, self._prompts, self._of_pairs = (Near(threshold) for _ in range(3))
    columns = (other.column("text"), other.column("response"))
    for row, (text, response) in enumerate(zip(*columns, strict=True)):
      if response:
        self._pairs.add(row, grams(f"{text} {response}"))
        self._of_pairs.add(row, grams(text))
      else:
        self._prompts.add(row, grams(text))

  def nearest(self, own: Sketches) -> tuple[int | None, bool, float]:
    """(row, whether it is the same, similarity); row None if none is near."""
    hit = overlap.find(self._exact, own.text, own.response)
    if hit:
      return hit[1], True, 1.0
    some = [self._prompts.nearest(own.prompt)]
    if own.pair:
      some.append(self._pairs.nearest(own.pair))
    else:
      some.append(self._of_pairs.nearest(own.prompt))
    row, similarity = max(some, key=lambda one: one[1])
    return row, False, similarity


class Near:
  """Sets of grams, and which of them is the nearest to another one."""

  def __init__(self, threshold: float):
    from datasketch import MinHashLSH

    self._threshold = threshold
    self._grams: dict[int, frozenset[str]] = {}
    self.table = MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))

  def add(self, row: int, own: frozenset[str]) -> None:
    self._grams[row] = own
    self.table.insert(row, minhash(own))

  def nearest(self, own: _Sketch) -> tuple[int | None, float]:
    """(row, similarity); (None, 0.0) if none reaches the threshold."""
    best: tuple[int | None, float] = (None, 0.0)
    for row in sorted(self.table.query(own.hashes)):
      other = self._grams[row]
      similarity = len(own.grams & other) / len(own.grams | other)
      if similarity >= self._threshold and similarity > best[1]:
        best = row, similarity
    return best


def bands(threshold: float) -> tuple[int, int]:
  """(bands, hashes a band) of the MinHash table.

  Two texts of similarity s meet in one of b bands of r hashes with probability
  1 - (1 - s^r)^b (Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, 3.4): the
  longest bands, which let fewest others through, that miss less than `MISSED`.
  """
  sizes = range(1, PERMUTATIONS // 2 + 1)
  fine = [r for r in sizes if (1 - threshold**r) ** (PERMUTATIONS // r) < MISSED]
  size = max(fine, default=1)
  return PERMUTATIONS // size, size


def grams(text: str) -> frozenset[str]:
  """Character 5-grams of what `alike` keeps, without punctuation; of any script."""
  whole = normalize.plain(text)
  spaced = "".join(" " if unicodedata.category(c)[0] == "P" else c for c in whole)
  plain = " ".join(spaced.split()) or whole
  return frozenset(plain[i : i + GRAM] for i in range(max(1, len(plain) - GRAM + 1)))


def minhash(own: frozenset[str]):
  from datasketch import MinHash

  sketch = MinHash(PERMUTATIONS, hashfunc=zlib.crc32)
  sketch.update_batch([gram.encode("utf-8", "surrogatepass") for gram in own])
  return sketch


def _texts(train: Records) -> Iterator[tuple[str, str, str, str | None]]:
  """(id, kind of the view or "", text, response) of all that training may read."""
  for batch in train.table.select(["id", "text", "response", "views"]).to_batches(
    BATCH
  ):
    for row in batch.to_pylist():
      yield row["id"], "", row["text"], row["response"]
      for view in row["views"] or ():
        changed = view["response"] or row["response"]
        yield row["id"], view["kind"], view["text"], changed


def main() -> int:
  given = flags.FLAGS
  return 1 if look(given.data, given.against, given.threshold, given.output) else 0


def look(
  data: str, against: list[str], threshold: float, output: str = ""
) -> list[Found]:
  """Prints and returns what is found; see the flags.

  Raises:
    UserError: before anything is compared, for whatever the user can mend.
  """
  if not 0.1 <= threshold < 1:
    raise UserError(f"--threshold={threshold}: it must be 0.1 to below 1")
  if output:
    _check(Path(output))
  train, others = _read(data, against)
  found = find(train, others, threshold)
  for line in _lines(len(train), others, found):
    print(line)
  if output:
    json_files.write_json(Path(output), [one._asdict() for one in found])
    print(f"all {len(found)} in {output}")
  return found


def _read(data: str, against: list[str]) -> tuple[Records, dict[str, Records]]:
  """(train, what it is compared with by name); labels are not looked at."""
  data = prepare.in_cache(data)
  found = split_files.find(data, whole=False)
  if list(found) == ["train"] and not against:
    splits = records.read_splits(data)  # one file, as a run would split it
    return splits.train, {"validation": splits.validation, "test": splits.test}
  if "train" not in found:
    raise UserError(f"{data}: no train split to look through")
  parts = {
    name: records.concat([records.read_texts(path) for path in paths])
    for name, paths in found.items()
  }
  train = parts.pop("train")
  return train, parts | {path: records.read_texts(path) for path in against}


def _check(output: Path) -> None:
  """Fails now, not after all the work."""
  if output.suffix != ".json" or output.name == "dataset.json":
    raise UserError(
      f"--output={output} cannot be written to: give a new name that ends in .json"
    )
  try:
    if output.is_dir():
      raise IsADirectoryError("it is a folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=output.parent).close()
  except OSError as error:
    raise UserError(
      f"--output={output}: cannot be written ({error}); name another file"
    ) from None


def _lines(rows: int, others: dict[str, Records], found: list[Found]) -> Iterator[str]:
  for name, other in others.items():
    yield f"train ({rows} rows) against {name} ({len(other)} rows):"
    for view in (False, True):
      for exact in (True, False):
        some = [
          one
          for one in found
          if one.other == name and bool(one.view) == view and one.exact == exact
        ]
        what = f"{'exact' if exact else 'near'} {'views' if view else 'texts'}"
        pairs = ", ".join(f"{one.id} = {one.other_id}" for one in some[:SHOWN])
        yield f"  {what}: {len(some)}{': ' + pairs if some else ''}"


if __name__ == "__main__":
  cli.run(main)
