"""The forms of attackers: each can be undone, and each is what the seed says."""

import base64
import codecs
import re
import unicodedata

import numpy as np
import pytest

from ssljax.augment.engine import Candidate, Source
from ssljax.augment.engines.adversarial import engine, obfuscations
from ssljax.errors import UserError

TEXT = "Please explain, in detail: how do I bake Zoe's quick brown loaf?\nJust verbs!"
SEEDS = range(80)


def rng(seed):
  return np.random.default_rng(seed)


def undo_leet(text):
  letters = {v: chr(k) for k, v in obfuscations.LEET.items() if chr(k).islower()}
  return text.lower().translate(str.maketrans({chr(k): v for k, v in letters.items()}))


def undo_homoglyphs(text):
  back = {
    new: old for old, all_new in obfuscations.HOMOGLYPHS.items() for new in all_new
  }
  return text.translate(str.maketrans(back))


def undo_zero_width(text):
  return re.sub(f"[{obfuscations.ZERO_WIDTH}]", "", text)


def undo_spacing(text):
  if "   " in text:
    words = [word.replace(" ", "") for word in text.split("   ")]
    return " ".join(words)
  return re.sub(r"(?<=[^\W_])[._-](?=[^\W_])", "", text)


def unframed(name, text):
  """What stands where a frame has {text}."""
  for frame in obfuscations.frames(name):
    before, after = frame.split("{text}")
    if text.startswith(before) and text.endswith(after):
      return text[len(before) : len(text) - len(after)]
  return None


UNDO = {
  "leet": (undo_leet, str.lower),
  "homoglyphs": (undo_homoglyphs, str),
  "zero_width": (undo_zero_width, str),
  "spacing": (undo_spacing, str),
  "case": (str.lower, str.lower),
  "base64": (lambda t: base64.b64decode(unframed("base64", t)).decode(), str),
  "rot13": (lambda t: codecs.decode(unframed("rot13", t), "rot13"), str),
  "template": (lambda t: unframed("jailbreak", t), str),
}


@pytest.mark.parametrize("name", engine.FORMS)
def test_the_text_can_be_got_back(name):
  undo, same = UNDO[name]
  form = engine.FORMS[name]
  for text in (TEXT, "Größe, çedille, 你好 and Ελλάδα 🙂", "x"):
    for seed in SEEDS:
      new = form(text, rng(seed))
      # What was of another script before comes back as Latin too.
      assert undo(new) == (undo(text) if name == "homoglyphs" else same(text))
      assert new == form(text, rng(seed))


@pytest.mark.parametrize("name", engine.FORMS)
def test_seeds_differ_and_the_text_changes(name):
  found = {engine.FORMS[name](TEXT, rng(seed)) for seed in SEEDS}
  assert TEXT not in found
  few = {"base64": 4, "rot13": 3, "template": 8}
  assert len(found) >= few.get(name, 20)


def test_homoglyphs_are_letters_of_other_scripts():
  for latin, alike in obfuscations.HOMOGLYPHS.items():
    for char in alike:
      assert not char.isascii()
      name = unicodedata.name(char)
      assert not name.startswith("LATIN"), name
      assert char.isupper() == latin.isupper()


def test_zero_width_characters_have_no_width():
  for char in obfuscations.ZERO_WIDTH:
    assert unicodedata.category(char) == "Cf"
  new = obfuscations.zero_width(TEXT, rng(0))
  assert len(new) > len(TEXT)
  assert not re.search(
    rf"[{obfuscations.ZERO_WIDTH}](?!\w)", new
  )  # inside of words only


def test_how_thickly_is_drawn():
  shares = []
  for seed in SEEDS:
    new = obfuscations.homoglyphs(TEXT, rng(seed))
    can = [old in obfuscations.HOMOGLYPHS for old in TEXT]
    shares.append(sum(a != b for a, b in zip(new, TEXT, strict=True)) / sum(can))
  assert min(shares) > 0.15
  assert max(shares) > 0.95


@pytest.mark.parametrize("name", ["jailbreak", "base64", "rot13"])
def test_templates_are_whole(name):
  frames = obfuscations.frames(name)
  assert len(frames) >= 3
  assert len(set(frames)) == len(frames)
  assert all(frame.count("{text}") == 1 for frame in frames)
  assert "{text} {0} %s" in obfuscations.template(
    "{text} {0} %s", rng(0)
  )  # no format string


def run(rows, numbers=(0,), **keywords):
  """Row by row the candidates of those numbers."""
  made = engine.make(**keywords)
  each = [dict(made.make(rows, number)) for number in numbers]
  return {i: [c for found in each for c in found[i]] for i in range(len(rows))}


def test_same_seed_same_views_whatever_stands_beside():
  rows = [Source(str(i), f"Tell me tale {i} of the baker.", "Once.") for i in range(30)]
  whole = run(rows, range(3), seed=2)
  assert [run([row], range(3), seed=2)[0] for row in rows] == [
    whole[i] for i in range(30)
  ]
  assert run(rows, range(3), seed=3) != whole
  assert run(rows, range(3, 6), seed=2) != whole
  assert all(each.response == "Once." for found in whole.values() for each in found)


def test_views_take_the_forms_in_turn():
  (found,) = run([Source("0", TEXT)], range(8)).values()
  assert len({each.text for each in found}) == 8
  assert sum(each.text.isascii() for each in found) == 6
  chosen = run([Source("0", TEXT)], range(4), forms=("leet", "case"))
  assert {len(each.text) for each in chosen[0]} == {len(TEXT)}


def test_a_text_that_a_form_cannot_change():
  found = run([Source("0", "¿?")], range(3), forms=("leet",))
  assert found == {0: [Candidate(problem="nothing to change")]}  # said once


def test_mistakes():
  with pytest.raises(UserError, match=r"config\.forms: morse; choose from leet"):
    engine.make(forms=("leet", "morse"))
  with pytest.raises(UserError, match=r"config\.forms: none"):
    engine.make(forms=())
