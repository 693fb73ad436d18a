"""Cuts rows into blocks that are scored together.

Scores differ in their last digits if texts are scored together with others. Where a
block ends therefore depends only on the rows, and neither on how fast they are scored
nor on where an interrupted run continues.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ssljax.inference.rows import RowReader

BYTES_PER_TOKEN = 4  # of English text

Pair = tuple[str | None, str | None]  # text and response


class Block(NamedTuple):
  chunk: Any  # of the reader; the block is a part of it
  begin: int  # index of the block's first row in the chunk
  texts: list[Pair]
  is_last: bool  # whether it is the last block of its chunk

  @property
  def end(self) -> int:
    return self.begin + len(self.texts)


def cut_blocks(
  reader: RowReader, chunk_size: int, tokens: int, max_length: int, done: int = 0
) -> Iterator[Block]:
  """Reads the rows after the first `done` ones.

  Args:
    chunk_size: that of the reader.
    tokens: a block ends when its texts have about as many tokens.
    max_length: longer texts are truncated to this number of tokens.
  """
  first = done - done % chunk_size  # of the chunk
  for chunk in reader.chunks(first):
    texts = reader.texts(chunk)
    for begin, end in _cut(texts, tokens, max_length):
      begin = max(begin, done - first)
      if begin < end:
        yield Block(chunk, begin, texts[begin:end], end == len(texts))
    first += len(texts)


def _cut(
  texts: Sequence[Pair], tokens: int, max_length: int
) -> Iterator[tuple[int, int]]:
  """The first row of each block, and the row after its last one."""
  begin, size = 0, 0
  for end, pair in enumerate(texts, 1):
    size += min(max_length, sum(map(_estimate, pair)))
    if size >= tokens or end == len(texts):
      yield begin, end
      begin, size = end, 0


def _estimate(text: str | None) -> int:
  """About the number of tokens of a text."""
  return 2 + len((text or "").encode(errors="surrogatepass")) // BYTES_PER_TOKEN
