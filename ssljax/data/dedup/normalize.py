"""Decides when two texts are the same, for splits, duplicates and overlaps.

They are the same if they differ only in case, white space, Unicode form (NFKC) or
invisible characters (Unicode category Cf, such as zero-width spaces).
"""

import hashlib
import re
import unicodedata

INVISIBLE = re.compile(
  "[\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
  "\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd"
  "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
  "\U000e0020-\U000e007f]"
)


def normalize_text(text: str) -> str:
  """Removes the differences that are ignored."""
  visible = unicodedata.normalize("NFKC", INVISIBLE.sub("", text))
  return " ".join(visible.casefold().split())


def text_digest(text: str, response: str | None) -> bytes:
  """A digest of a text or pair; if two are the same, their digests are equal.

  An empty response is treated as no response.
  """
  parts = [text, response] if response else [text]
  content = "\0".join(map(normalize_text, parts)).encode("utf-8", "surrogatepass")
  return hashlib.blake2b(content, digest_size=16).digest()
