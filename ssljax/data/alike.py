"""When two texts count as the same: one rule for splits, copies and overlaps.

They do if they differ in case, white space or Unicode form (NFKC) alone.
"""

import hashlib
import unicodedata


def same(text: str, response: str | None) -> bytes:
  """A digest that texts have in common which count as the same."""
  parts = [text] if response is None else [text, response]
  plain = "\0".join(
    " ".join(unicodedata.normalize("NFKC", part).casefold().split()) for part in parts
  )
  return hashlib.blake2b(
    plain.encode("utf-8", "surrogatepass"), digest_size=16
  ).digest()
