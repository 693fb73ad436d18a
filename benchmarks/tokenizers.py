"""Counts the texts to which tensorflow-text gives other ids, and says where and why.

  python -m benchmarks.tokenizers --data=pyrit

Needs the extra `tftext`. First comes the backend as it is used: what tensorflow-text
might do differently goes to the tokenizer itself, so no text should differ. Then the
same with every word left to tensorflow-text, which shows what that rule is for. Data is
whatever `--config.data` takes; texts, responses and stored views of all three splits
are read.
"""

import argparse
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

from ssljax.assets.encoders import resolve
from ssljax.data.batches import tftext, tokenize
from ssljax.data.records.read import read_splits
from ssljax.data.records.records import Splits
from ssljax.data.sources import build
from ssljax.errors import UserError

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
FAMILIES = ("_wordpiece", "_sentencepiece")


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument("--data", required=True)
  parser.add_argument("--encoder", default=MINILM)
  parser.add_argument("--shown", type=int, default=10)
  options = parser.parse_args()
  try:
    folder = resolve(options.encoder)
    splits = read_splits(build.resolve_data(options.data))
    backend = tokenize.load_tokenizer(folder).backend_tokenizer
    used = tftext.make_encoder(backend, folder)
    with every_word():
      alone = tftext.make_encoder(backend, folder)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return error.code
  places, texts = zip(*texts_of(splits), strict=True)
  reference = lambda some: [
    each.ids for each in backend.encode_batch(some, add_special_tokens=False)
  ]
  expected = timed("tokenizers", reference, texts)
  for name, encode in (("as used", used), ("every word", alone)):
    compare(backend, name, places, texts, expected, encode, options.shown)
  return 0


def texts_of(splits: Splits) -> Iterator[tuple[str, str]]:
  """(where it stands, text) of all that a run may read."""
  for name in ("train", "validation", "test"):
    part = getattr(splits, name)
    for row in part.table.select(["id", "text", "response", "views"]).to_pylist():
      place = f"{name} {row['id']}"
      for view in ({"kind": "", **row}, *(row["views"] or ())):
        for column in ("text", "response"):
          if view[column] is not None:
            yield " ".join(filter(None, (place, view["kind"], column))), view[column]


def every_word():
  """Leaves tensorflow-text all words but those of texts that spell special tokens."""

  def changed(family: Callable) -> Callable:
    def made(*given):
      found = family(*given)
      return found and (found[0], lambda word: word, found[2])

    return made

  families = {name: changed(getattr(tftext, name)) for name in FAMILIES}
  return mock.patch.multiple(tftext, **families)


def timed(name: str, encode: Callable, texts: Sequence[str]) -> list[list[int]]:
  began = time.perf_counter()
  found = encode(texts)
  seconds = time.perf_counter() - began
  print(f"{name}: {len(texts)} texts, {len(texts) / seconds:.0f} a second")
  return found


def compare(
  backend,
  name: str,
  places: Sequence[str],
  texts: Sequence[str],
  expected: Sequence[Sequence[int]],
  encode: Callable,
  shown: int,
) -> None:
  """Prints how many texts differ, and the first token and characters that do."""
  found = timed(f"tensorflow-text, {name}", encode, texts)
  pairs = enumerate(zip(expected, found, strict=True))
  other = [i for i, (a, b) in pairs if a != b]
  print(f"  {len(other)} of {len(texts)} texts differ")
  for i in other[:shown]:
    tokens = backend.encode(texts[i], add_special_tokens=False)
    both = enumerate(zip(expected[i], found[i], strict=False))
    shorter = min(len(expected[i]), len(found[i]))
    at = next((k for k, (a, b) in both if a != b), shorter)
    begin, end = tokens.offsets[at] if at < len(tokens.ids) else (len(texts[i]),) * 2
    around = texts[i][max(0, begin - 1) : end + 1]
    names = [unicodedata.name(c, f"U+{ord(c):04X}") for c in around if not c.isascii()]
    names = names or [ascii(around[:40])]
    ours = backend.id_to_token(found[i][at]) if at < len(found[i]) else "nothing"
    theirs = tokens.tokens[at] if at < len(tokens.ids) else "nothing"
    shown = f"{ours!r} for {theirs!r}; {', '.join(names)}"
    print(f"  {places[i]}, token {at}: {shown}")


if __name__ == "__main__":
  sys.exit(main())
