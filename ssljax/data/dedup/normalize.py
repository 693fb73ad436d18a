"""When two texts count as the same: one rule for splits, copies and overlaps.

They do if they differ in case, white space, Unicode form (NFKC) or in characters that
nobody sees (Unicode's class Cf, as zero-width spaces) alone.
"""

import hashlib
import re
import unicodedata

UNSEEN = re.compile(
  "[\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
  "\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd"
  "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
  "\U000e0020-\U000e007f]"
)


def plain(text: str) -> str:
  """What is left of a text when all goes that does not count."""
  seen = unicodedata.normalize("NFKC", UNSEEN.sub("", text))
  return " ".join(seen.casefold().split())


def same(text: str, response: str | None) -> bytes:
  """A digest that texts have in common which count as the same.

  An empty response is none.
  """
  parts = [text, response] if response else [text]
  joined = "\0".join(map(plain, parts))
  return hashlib.blake2b(
    joined.encode("utf-8", "surrogatepass"), digest_size=16
  ).digest()
