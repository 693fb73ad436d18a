"""Counts the texts that tensorflow-text tokenizes differently, and shows where and why.

  python -m benchmarks.tokenizers --data=pyrit

Needs the extra `tftext`. First it checks the backend as it is used: words that
tensorflow-text might tokenize differently go to the original tokenizer, so no text
should differ. Then it gives every word to tensorflow-text, which shows why that rule
exists. `--data` accepts what `--config.data` does; texts, responses and stored views of
all three splits are read.
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
    with without_fallback():
      unguarded = tftext.make_encoder(backend, folder)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return error.code
  places, texts = zip(*texts_of(splits), strict=True)
  reference = lambda batch: [
    encoding.ids for encoding in backend.encode_batch(batch, add_special_tokens=False)
  ]
  expected = timed("tokenizers", reference, texts)
  for name, encode in (("as used", used), ("every word", unguarded)):
    compare(backend, name, places, texts, expected, encode, options.shown)
  return 0


def texts_of(splits: Splits) -> Iterator[tuple[str, str]]:
  """Yields (location, text) for all texts that a run may read."""
  for name in ("train", "validation", "test"):
    split = getattr(splits, name)
    for row in split.table.select(["id", "text", "response", "views"]).to_pylist():
      place = f"{name} {row['id']}"
      for view in ({"kind": "", **row}, *(row["views"] or ())):
        for column in ("text", "response"):
          if view[column] is not None:
            yield " ".join(filter(None, (place, view["kind"], column))), view[column]


def without_fallback():
  """Patches tftext: only texts with special tokens use the original tokenizer."""

  def patched(family: Callable) -> Callable:
    def make(*args):
      encoder = family(*args)
      return encoder and (encoder[0], lambda word: word, encoder[2])

    return make

  families = {name: patched(getattr(tftext, name)) for name in FAMILIES}
  return mock.patch.multiple(tftext, **families)


def timed(name: str, encode: Callable, texts: Sequence[str]) -> list[list[int]]:
  began = time.perf_counter()
  ids = encode(texts)
  seconds = time.perf_counter() - began
  print(f"{name}: {len(texts)} texts, {len(texts) / seconds:.0f} per second")
  return ids


def compare(
  backend,
  name: str,
  places: Sequence[str],
  texts: Sequence[str],
  expected: Sequence[Sequence[int]],
  encode: Callable,
  shown: int,
) -> None:
  """Prints how many texts differ, and the first difference of each."""
  actual = timed(f"tensorflow-text, {name}", encode, texts)
  pairs = enumerate(zip(expected, actual, strict=True))
  different = [i for i, (a, b) in pairs if a != b]
  print(f"  {len(different)} of {len(texts)} texts differ")
  for i in different[:shown]:
    tokens = backend.encode(texts[i], add_special_tokens=False)
    both = enumerate(zip(expected[i], actual[i], strict=False))
    shorter = min(len(expected[i]), len(actual[i]))
    at = next((k for k, (a, b) in both if a != b), shorter)
    begin, end = tokens.offsets[at] if at < len(tokens.ids) else (len(texts[i]),) * 2
    around = texts[i][max(0, begin - 1) : end + 1]
    names = [unicodedata.name(c, f"U+{ord(c):04X}") for c in around if not c.isascii()]
    names = names or [ascii(around[:40])]
    ours = backend.id_to_token(actual[i][at]) if at < len(actual[i]) else "nothing"
    theirs = tokens.tokens[at] if at < len(tokens.ids) else "nothing"
    print(f"  {places[i]}, token {at}: {ours!r}, not {theirs!r}; {', '.join(names)}")


if __name__ == "__main__":
  sys.exit(main())
