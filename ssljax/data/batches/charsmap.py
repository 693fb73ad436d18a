"""The normalizer of a SentencePiece model, in steps that a tokenizer.json can hold.

A model has a table of replacements, which `Precompiled` reads. But `Precompiled` drops
combining marks after a letter that it changes. Most tables were made from NFKC, so NFKC
goes first, and is held back where these tables do less:

- They compose a letter only with marks that follow it directly and in canonical order,
  and never a letter that already has a mark, as in Vietnamese of Windows-1258.
- Some keep the full-width tilde of Japanese, or the Turkish dotted I.

SentencePiece gives the same result, except for letters with marks that are newer than
the Unicode version of `NFKC`, or to which the case folding of "_cf" tables applies.
"""

import collections
import functools
import unicodedata
from collections.abc import Iterable

# Names of SentencePiece's own tables that were made from NFKC.
NFKC = ("nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf")
STOP = "\1"  # no letter composes with a mark behind it; the "nmt_" tables remove it
KEPT = {"\uff5e": "\ufdd0", "\u0130": "\ufdd1"}  # replaced by noncharacters meanwhile
JAMO = "\u11c2"  # the last of those that NFKC adds to a syllable


def normalizer(spec, lower_case: bool):
  """The normalizer of a SentencePiece model, without the symbol for spaces.

  Args:
    spec: the `normalizer_spec` of the model.
  """
  from tokenizers import Regex, normalizers

  steps = [normalizers.Lowercase()] if lower_case else []
  if spec.precompiled_charsmap:
    table = normalizers.Precompiled(spec.precompiled_charsmap)
    if spec.name in NFKC:
      stops = Regex(_where_composition_stops(spec.precompiled_charsmap))
      steps.append(normalizers.Replace(stops, STOP))
      kept = {c: other for c, other in KEPT.items() if table.normalize_str(c) == c}
      steps += [normalizers.Replace(c, other) for c, other in kept.items()]
      steps.append(normalizers.NFKC())
      steps += [normalizers.Lowercase()] if spec.name.endswith("_cf") else []
      steps += [table, normalizers.Replace(STOP, "")]
      steps += [normalizers.Replace(other, c) for c, other in kept.items()]
    else:
      steps.append(table)
  if spec.remove_extra_whitespaces:
    steps.append(normalizers.Replace(Regex(r"\A +| +\z"), ""))
    steps.append(normalizers.Replace(Regex(" {2,}"), " "))
  return normalizers.Sequence(steps)


@functools.cache
def _where_composition_stops(charsmap: bytes) -> str:
  """A pattern for the places before marks that NFKC composes, but not the table."""
  from tokenizers import normalizers

  change = normalizers.Precompiled(charsmap).normalize_str
  characters = [chr(i) for i in range(0x21, 0x20000) if not 0xD800 <= i < 0xE000]
  parts = {c: unicodedata.normalize("NFKD", c) for c in characters}
  variants = collections.defaultdict(set)  # full-width letters, for example
  for c in characters:
    variants[parts[c]].add(c)
  # Letters with a mark, ligatures, and what the table alone changes.
  several = {
    c
    for c in characters
    if len(parts[c]) > 1 or (parts[c] == c and change(c) not in (c, c.lower()))
  }
  marks, by_class = set(), collections.defaultdict(set)
  for c in characters:
    if unicodedata.category(parts[c][0])[0] == "M" or "\u11a8" <= parts[c] <= JAMO:
      marks.add(c)
      by_class[unicodedata.combining(parts[c][0])].add(c)
  # NFKC sorts marks by class, and composes across those of a lower class. Tables do
  # it only for letters that have marks of two classes.
  bases = collections.defaultdict(set)
  for c in characters:
    base, *more = unicodedata.normalize("NFD", c)
    if unicodedata.normalize("NFC", c) == c:
      for i in range(2, len(more) + 1):
        if unicodedata.combining(more[i - 2]) != unicodedata.combining(more[i - 1]):
          bases[tuple(more[:i])] |= variants[base]
  composed = [
    f"(?<={''.join(map(_class, [letters, *(variants[m] for m in before)]))})"
    + _class(variants[last])
    for (*before, last), letters in bases.items()
  ]
  del by_class[0]  # these marks stay where they are
  classes = sorted(map(_class, by_class.values()), key=len, reverse=True)
  changes = "|".join(f"(?={group})(?<!{group})" for group in classes)
  return (
    rf"(?={_class(marks)})(?!\A)"
    f"(?:(?<={_class(several)})|(?={_class(several & marks)})"
    f"|(?<={_class(set().union(*by_class.values()))})(?:{changes}))"
    f"(?!{'|'.join(composed)})"
  )


def _class(characters: Iterable[str]) -> str:
  """A character class of a pattern, with ranges."""
  ranges: list[list[int]] = []
  for code in sorted(map(ord, characters)):
    if ranges and code == ranges[-1][1] + 1:
      ranges[-1][1] = code
    else:
      ranges.append([code, code])
  return "[" + "".join(f"{chr(a)}-{chr(b)}" for a, b in ranges) + "]"
