"""Marked changes: nothing of a text is lost, and marks follow words."""

import itertools
import random

import pytest

from ssljax.augment.view_diff import diff


def marked(parts):
  return [part for differs, part in parts if differs]


def same(parts):
  return "".join("".join(part for differs, part in parts if not differs).split())


ALPHABET = [
  "red",
  "car",
  " ",
  "\n",
  "  ",
  ".",
  "don't",
  "你",
  "好",
  "ที่",
  "\u200b",
  "é",
  "🙂",
]


def test_the_parts_are_the_texts_and_share_what_is_not_marked():
  draw = random.Random(0)
  for _ in range(300):
    text, view = ("".join(draw.choices(ALPHABET, k=draw.randrange(12))) for _ in "ab")
    left, right = diff(text, view)
    assert "".join(part for _, part in left) == text
    assert "".join(part for _, part in right) == view
    assert same(left) == same(right)
    for parts in (left, right):
      marks = [differs for differs, _ in parts]
      assert all(a != b for a, b in itertools.pairwise(marks))
      assert all(part for _, part in parts)


@pytest.mark.parametrize(
  ("text", "view", "gone", "new"),
  [
    ("a red car", "a red car", [], []),
    ("a red car", "a blue car", ["red"], ["blue"]),
    ("a red car", "a car", ["red "], []),
    ("one red car here", "one blue bus here", ["red car"], ["blue bus"]),
    ("I don't know.", "I do know!", ["don't", "."], ["do", "!"]),
    ("我喜欢红色的车", "我喜欢蓝色的车", ["红"], ["蓝"]),
    ("ฉันชอบรถ", "ฉันชอบแมว", ["รถ"], ["แมว"]),
    ("हिन्दी में पूछो", "हिन्दी में बोलो", ["पूछो"], ["बोलो"]),
    ("ما هو أفضل طعام", "ما هو أسوأ طعام", ["أفضل"], ["أسوأ"]),
    ("abc", "a\u200bbc", ["abc"], ["a\u200bbc"]),
    ("", "new", [], ["new"]),
  ],
)
def test_changed_words_are_marked(text, view, gone, new):
  left, right = diff(text, view)
  assert (marked(left), marked(right)) == (gone, new)
