"""Texts are the same up to case, white space and invisible characters."""

import sys
import unicodedata

import pytest

from ssljax.data.dedup import normalize


@pytest.mark.parametrize(
  ("first", "second", "same"),
  [
    (("Bake  bread", None), ("bake\nbread ", None), True),
    (("ﬁne", None), ("fine", None), True),
    (("ba\u200bke\u00ad bread", None), ("bake bread\ufeff", None), True),
    (("bake bread", None), ("bake breads", None), False),
    (("bake", "bread"), ("Bake", "Bread"), True),
    (("bake", "bread"), ("bake", "rolls"), False),
    (("bake", "bread"), ("bake bread", None), False),
    (("bake", ""), ("bake", None), True),
  ],
)
def test_case_space_and_unicode_form_are_ignored(first, second, same):
  assert (normalize.text_digest(*first) == normalize.text_digest(*second)) == same


def test_invisible_characters_are_ignored():
  every = (chr(c) for c in range(sys.maxunicode + 1))
  invisible = "".join(c for c in every if unicodedata.category(c) == "Cf")
  assert len(invisible) > 150
  assert normalize.normalize_text(f"ba{invisible}ke") == "bake"
