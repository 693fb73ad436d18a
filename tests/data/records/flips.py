"""Flips bits of Parquet files."""

from ssljax.data.records import files
from ssljax.errors import UserError


def flip(path, content, bit):
  flipped = bytearray(content)
  flipped[bit // 8] ^= 1 << (bit % 8)
  path.write_bytes(flipped)


def losing_flips(path, content):
  """The bits that make pyarrow end early, without an error."""
  for bit in range(8 * len(content)):
    flip(path, content, bit)
    try:
      file = files.open_parquet(path)
      count = sum(map(len, file.iter_batches(8, use_threads=False)))
    except (UserError, ValueError, OSError):
      continue
    if count != file.metadata.num_rows:
      yield bit
