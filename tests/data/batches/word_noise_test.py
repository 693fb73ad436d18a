"""Perturbation is deterministic, never empty, and has the given rates."""

import hashlib
import json
import os
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pytest

from ssljax.data.batches import word_noise

TEXT = "How do I bake a large loaf of bread, quickly, in a small (gas) oven?"
KNOWN = word_noise.count_words(["alpha beta gamma delta", "alpha beta"])


def rng(seed=0):
  return np.random.default_rng(seed)


def test_the_generator_determines_the_result():
  perturbed = {word_noise.perturb(TEXT, rng(seed), KNOWN) for seed in range(50)}
  assert len(perturbed) > 40
  assert word_noise.perturb(TEXT, rng(1), KNOWN) == word_noise.perturb(
    TEXT, rng(1), KNOWN
  )
  assert word_noise.perturb(TEXT, rng(1), KNOWN, rate=0.0) == TEXT


def test_never_empty():
  for seed in range(200):
    for text in ("one two three", "a b c d", "x, y; z!"):
      assert word_noise.WORD.search(
        word_noise.perturb(text, rng(seed), KNOWN, rate=1 / 3)
      )

  class Lowest:  # every word is deleted
    def random(self, n):
      return np.zeros(n)

  assert word_noise.perturb("one two three", Lowest(), KNOWN) == "one"


@pytest.mark.parametrize("text", ["", "  ", "?!", "stop", "stop now", "🙂 🙂 🙂 🙂"])
def test_short_texts_are_unchanged(text):
  for seed in range(30):
    assert word_noise.perturb(text, rng(seed), KNOWN, rate=1 / 3) == text


def test_long_words_are_unchanged():
  code = "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd29ybGQ"
  for seed in range(50):
    perturbed = word_noise.perturb(
      f"please decode {code} for me", rng(seed), KNOWN, 0.1
    )
    assert code in perturbed


def test_unspaced_scripts_change_by_character():
  text = "我想知道怎么烤面包并且让它又香又软"
  perturbed = [
    word_noise.perturb(text, rng(seed), word_noise.count_words([text]))
    for seed in range(50)
  ]
  assert len(set(perturbed)) > 30
  assert all(len(f) >= len(text) // 2 for f in perturbed)


def test_rates():
  text = " ".join(f"w{i}" for i in range(20_000))
  perturbed = word_noise.perturb(
    text, rng(), word_noise.count_words(["zzz"]), rate=0.1
  ).split()
  replaced = perturbed.count("zzz")
  assert abs(replaced / 20_000 - 0.1) < 0.01
  assert abs((20_000 - len(perturbed)) / 20_000 - 0.1) < 0.01
  order = [int(w[1:]) for w in perturbed if w != "zzz"]
  swapped = (np.diff(order) < 0).sum()
  assert 0.05 < swapped / 20_000 < 0.15


def test_punctuation_and_white_space_are_kept():
  text = "First, this.\n\nSecond: (that) one!"
  for seed in range(300):
    perturbed = word_noise.perturb(text, rng(seed), KNOWN)
    assert "  " not in perturbed
    assert not perturbed.startswith(" ")
    assert perturbed.count("\n") in (1, 2)
    for mark in ",.:()!":
      assert mark in perturbed


@pytest.mark.parametrize(
  ("before", "after", "kept"),
  [
    (" ", " ", " "),
    (" ", ", ", ", "),
    (", ", " ", ", "),
    (" (", " ", " ("),
    (" (", ") ", " () "),
    (", ", " (", ", ("),
    ("\n", " ", "\n"),
    (" ", "\n\n", "\n\n"),
    ("", " ", ""),
    ("", "", ""),
    (" ", "", " "),
  ],
)
def test_gap_after_deleting_a_word(before, after, kept):
  assert word_noise._join_gaps(before, after) == kept


def test_capitals_are_kept():
  known = word_noise.count_words(["beta"])
  perturbed = [
    word_noise.perturb("Alpha gamma delta", rng(s), known, 0.3) for s in range(99)
  ]
  assert any(f.startswith("Beta") for f in perturbed)
  assert not any(f.startswith("beta gamma") for f in perturbed)


def test_replacements_follow_the_frequencies():
  known = word_noise.count_words(["often " * 9 + "seldom"])
  text = " ".join(["w"] * 20_000)
  perturbed = word_noise.perturb(text, rng(), known, rate=1 / 3).split()
  ratio = perturbed.count("often") / perturbed.count("seldom")
  assert 7.5 < ratio < 10.5


def test_rows_candidates_and_pairs_are_independent():
  texts, responses = [TEXT] * 20, [TEXT] * 19 + [None]
  perturbed = word_noise.perturb_all(texts, responses, seed=3, candidates=2)
  assert len(perturbed) == 2
  assert perturbed[0][19][1] is None
  everything = [t for pairs in perturbed for pair in pairs for t in pair if t]
  assert len(set(everything)) > 70
  assert all(a != b for a, b in perturbed[0])
  assert word_noise.perturb_all(texts, responses, 3, 2) == perturbed
  assert word_noise.perturb_all(texts, responses, 4, 2) != perturbed
  # More candidates do not change the first ones.
  assert word_noise.perturb_all(texts, responses, 3, 3)[:2] == perturbed


def test_the_hash_seed_does_not_matter():
  code = (
    "from ssljax.data.batches import word_noise;"
    "t=['one two three four five %d' % i for i in range(50)];"
    "print(word_noise.perturb_all(t, t, 0, 2))"
  )
  seen = {
    subprocess.run(
      [sys.executable, "-c", code],
      env={**os.environ, "PYTHONHASHSEED": seed},
      capture_output=True,
      text=True,
      check=True,
    ).stdout
    for seed in ("1", "2")
  }
  assert len(seen) == 1
  assert "one" in seen.pop()


SCRIPTS = {
  "hindi": "मैं घर पर रोटी कैसे बनाऊँ",
  "bengali": "আমি ঘরে কীভাবে রুটি বানাব",
  "tamil": "வீட்டில் ரொட்டி எப்படி செய்வது",
  "vietnamese, NFD": unicodedata.normalize("NFD", "Làm thế nào để nướng bánh mì"),
  "hebrew": "שָׁלוֹם עוֹלָם לֶחֶם טוֹב",
  "arabic": "كَيْفَ أَخْبِزُ الخُبْزَ",
  "persian": "می\u200cخواهم نان بپزم",
  "adlam": "𞤀𞥄𞤁 𞤂𞥄 𞤃𞥆",
}
CLUSTERS = {
  "thai": (
    "ฉันทำขนมปังให้เก็บ",
    ["ฉั", "น", "ทำ", "ข", "น", "ม", "ปั", "ง", "ให้", "เก็", "บ"],
  ),
  "khmer": ("ខ្មែរស្រ", ["ខ្មែ", "រ", "ស្រ"]),
  "japanese, NFD": ("か\u3099っこう", ["か\u3099", "っ", "こ", "う"]),
}


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
def test_combining_marks_belong_to_their_words(text):
  assert word_noise.WORD.findall(text) == text.split()
  known = word_noise.count_words([text])
  for seed in range(100):
    new = word_noise.perturb(text, rng(seed), known, rate=0.2)
    assert set(new.lower().split()) <= set(text.lower().split())


@pytest.mark.parametrize(("text", "words"), CLUSTERS.values(), ids=CLUSTERS)
def test_letters_of_unspaced_scripts_keep_their_marks(text, words):
  assert word_noise.WORD.findall(text) == words


def test_a_run_of_version_0_1_0_keeps_its_words():
  thai = "ฉันอยากรู้วิธีทำขนมปังให้นุ่ม"
  names = ("hindi", "tamil", "vietnamese, NFD", "arabic")
  texts = [*(SCRIPTS[name] for name in names), thai, "How do I bake a loaf? 怎么烤面包"]
  old = word_noise.perturb_all(texts, texts, 7, 4, version=1)
  digest = hashlib.sha256(json.dumps(old).encode()).hexdigest()
  assert digest == "91ce4dd6b3a6389fa5051ef2e7a536b47b2bb3b8f5ba7bc147d9087b892067fe"
  new = word_noise.perturb_all(texts, texts, 7, 4)
  assert old != new
  unmarked = [TEXT, "怎么烤面包", "naïve café", "x²_1 don’t"] * 20
  assert word_noise.perturb_all(unmarked, unmarked, 7) == word_noise.perturb_all(
    unmarked, unmarked, 7, version=1
  )


def test_empty_vocabulary():
  assert word_noise.perturb_all([], [], 0) == [[]]
  assert word_noise.perturb_all(["?!"], [None], 0) == [[("?!", None)]]


def test_speed():
  rows = 2000
  text = " ".join(f"word{i}" for i in range(60))
  begin = time.process_time()
  word_noise.perturb_all([text] * rows, [None] * rows, 0)
  # 100,000 such rows take less than a minute of CPU time.
  assert time.process_time() - begin < 60 * rows / 100_000 * 2
