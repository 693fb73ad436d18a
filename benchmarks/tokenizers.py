"""Counts the texts to which tensorflow-text gives other ids, and says where and why.

  python -m benchmarks.tokenizers --data=pyrit

Needs the extra `tftext`. First comes the backend as it is used: what tensorflow-text
might do differently goes to the tokenizer itself, so no text should differ. Then the
same with every word left to tensorflow-text, which shows what that rule is for. Data is
whatever `--config.data` takes; all three splits and the responses are read.
"""

import argparse
import re
import time
import unicodedata
from collections.abc import Callable, Sequence
from unittest import mock

from ssljax.data import prepare, records, tftext, tokenize
from ssljax.models import resolve

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
EVERY = re.compile(".*", re.DOTALL)


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--data", required=True)
  parser.add_argument("--encoder", default=MINILM)
  parser.add_argument("--shown", type=int, default=10)
  options = parser.parse_args()
  folder = resolve(options.encoder)
  backend = tokenize.load_tokenizer(folder).backend_tokenizer
  splits = records.read_splits(prepare.in_cache(options.data))
  texts = [
    text
    for part in (splits.train, splits.validation, splits.test)
    for name in ("text", "response")
    for text in part.column(name)
    if text is not None
  ]
  reference = lambda some: [
    each.ids for each in backend.encode_batch(some, add_special_tokens=False)
  ]
  expected = timed("tokenizers", reference, texts)
  used = tftext.make(backend, folder)
  compare(backend, "as used", texts, expected, used, options.shown)
  with mock.patch.object(tftext, "PLAIN", EVERY):
    alone = tftext.make(backend, folder)
    compare(backend, "every word", texts, expected, alone, options.shown)


def timed(name: str, encode: Callable, texts: list[str]) -> list[list[int]]:
  began = time.perf_counter()
  found = encode(texts)
  seconds = time.perf_counter() - began
  print(f"{name}: {len(texts)} texts, {len(texts) / seconds:.0f} a second")
  return found


def compare(
  backend,
  name: str,
  texts: list[str],
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
    ours = backend.id_to_token(found[i][at]) if at < len(found[i]) else "nothing"
    theirs = tokens.tokens[at] if at < len(tokens.ids) else "nothing"
    print(f"  text {i}, token {at}: {ours!r} for {theirs!r}; {', '.join(names)}")


if __name__ == "__main__":
  main()
