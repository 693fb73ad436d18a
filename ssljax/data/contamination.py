"""Finds texts of train that stand, exactly or nearly, in data meant for testing.

  python -m ssljax.data.contamination --data=FOLDER
  python -m ssljax.data.contamination --data=FOLDER --against=other_test.jsonl

Compared are the rows of train, labelled or not, and their stored views, with the
folder's own validation and test, and with each file of `--against`. Exact is what
`alike` calls the same; near is a Jaccard similarity of word 3-grams of at least
`--threshold`, found by MinHash (a pair at the threshold is missed once in a thousand
times, a nearer one less often) and then computed. Exit code 0 if nothing was found, 1
if something was.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from absl import flags

from ssljax import cli, jsonfile
from ssljax.data import overlap, records
from ssljax.data.alike import same
from ssljax.data.records import Records
from ssljax.errors import UserError

# Other programs have flags of these names, and a process may import several.
flags.DEFINE_string(
  "data",
  None,
  "folder or files with a train split",
  required=True,
  allow_override=True,
)
flags.DEFINE_multi_string("against", [], "file of texts to compare with; repeatable")
flags.DEFINE_float("threshold", 0.8, "similarity from which on two texts are near")
flags.DEFINE_string(
  "output", "", "JSON file for the ids of all that was found", allow_override=True
)

SHOWN = 5  # pairs of ids printed for each kind of finding
PERMUTATIONS = 128
MISSED = 1e-3  # share of the pairs at the threshold that MinHash may not see


class Found(NamedTuple):
  """A text of train that is, or nearly is, a text of `other`."""

  id: str  # row of train
  view: str  # kind of the view, "" for the text itself
  other: str  # which set
  other_id: str
  exact: bool  # the same, as `alike` has it
  similarity: float  # of the word 3-grams; 1.0 where exact


def find(train: Records, others: dict[str, Records], threshold: float) -> list[Found]:
  """All overlaps, one finding for each text of train and other set."""
  found = []
  for name, other in others.items():
    exact = overlap.known([other])
    ids = other.column("id")
    index = _Index(other, threshold)
    for id, view, text, response in _texts(train):
      hit = exact.get(same(text, response)) or exact.get(same(text, None))
      if hit:
        found.append(Found(id, view, name, ids[hit[1]], True, 1.0))
        continue
      row, similarity = index.nearest(text, response)
      if row is not None:
        found.append(Found(id, view, name, ids[row], False, similarity))
  return found


class _Index:
  """The near texts of a set, by MinHash and then by the sets of 3-grams themselves."""

  def __init__(self, other: Records, threshold: float):
    from datasketch import MinHashLSH

    self.threshold = threshold
    self.grams = [
      grams(text, response)
      for text, response in zip(
        other.column("text"), other.column("response"), strict=True
      )
    ]
    self.table = MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))
    with self.table.insertion_session() as session:
      for row, own in enumerate(self.grams):
        session.insert(row, _minhash(own))

  def nearest(self, text: str, response: str | None) -> tuple[int | None, float]:
    own = grams(text, response)
    best: tuple[int | None, float] = (None, 0.0)
    for row in sorted(self.table.query(_minhash(own))):
      union = len(own | self.grams[row])
      similarity = len(own & self.grams[row]) / union
      if similarity >= self.threshold and similarity > best[1]:
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


def grams(text: str, response: str | None) -> frozenset[str]:
  """Word 3-grams of a text, or of a pair; those of a short text are its words."""
  words = " ".join([text, response or ""]).casefold().split()
  if len(words) < 3:
    return frozenset(words)
  return frozenset(" ".join(words[i : i + 3]) for i in range(len(words) - 2))


def _minhash(own: frozenset[str]):
  from datasketch import MinHash

  sketch = MinHash(PERMUTATIONS)
  sketch.update_batch([gram.encode("utf-8", "surrogatepass") for gram in own])
  return sketch


def _texts(train: Records) -> Iterator[tuple[str, str, str, str | None]]:
  """(id, kind of the view or "", text, response) of all that training may read."""
  for id, text, response, views in zip(
    *(train.column(name) for name in ("id", "text", "response", "views")), strict=True
  ):
    yield id, "", text, response
    for view in views or ():
      changed = view["response"] if view["response"] is not None else response
      yield id, view["kind"], view["text"], changed


def main() -> int:
  values = flags.FLAGS
  if not 0.1 <= values.threshold < 1:
    raise UserError(f"--threshold={values.threshold}: it must be 0.1 to below 1")
  splits = records.read_splits(values.data)
  others = {"validation": splits.validation, "test": splits.test}
  for path in values.against:
    others[path] = records.read_file(path)
  found = find(splits.train, others, values.threshold)
  for line in _lines(len(splits.train), others, found):
    print(line)
  if values.output:
    jsonfile.write_json(Path(values.output), [one._asdict() for one in found])
    print(f"all {len(found)} in {values.output}")
  return 1 if found else 0


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
