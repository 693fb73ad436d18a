"""Obfuscations: each is reversible and reproducible; the engine cycles through them."""

import base64
import codecs
import re
import unicodedata

import numpy as np
import pytest

from ssljax.augment import engines
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.engines.adversarial import obfuscations
from ssljax.augment.engines.adversarial.obfuscations import OBFUSCATIONS
from ssljax.errors import UserError

TEXT = "Please explain, in detail: how do I bake Zoe's quick brown loaf?\nJust verbs!"
SEEDS = range(80)


def make_engine(**keywords):
  return engines.make("adversarial", keywords)


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


def extract(name, text):
  """The part of `text` that fills a template's {text}."""
  for template in obfuscations.load_templates(name):
    before, after = template.split("{text}")
    if text.startswith(before) and text.endswith(after):
      return text[len(before) : len(text) - len(after)]
  return None


UNDO = {
  "leet": (undo_leet, str.lower),
  "homoglyphs": (undo_homoglyphs, str),
  "zero_width": (undo_zero_width, str),
  "spacing": (undo_spacing, str),
  "case": (str.lower, str.lower),
  "base64": (lambda t: base64.b64decode(extract("base64", t)).decode(), str),
  "rot13": (lambda t: codecs.decode(extract("rot13", t), "rot13"), str),
  "template": (lambda t: extract("jailbreak", t), str),
}


@pytest.mark.parametrize("name", OBFUSCATIONS)
def test_obfuscations_are_reversible(name):
  undo, expected = UNDO[name]
  obfuscate = OBFUSCATIONS[name]
  for text in (TEXT, "Größe, çedille, 你好 and Ελλάδα 🙂", "x"):
    for seed in SEEDS:
      new = obfuscate(text, rng(seed))
      # `undo` also maps the text's own letters of other scripts to Latin ones.
      assert undo(new) == (undo(text) if name == "homoglyphs" else expected(text))
      assert new == obfuscate(text, rng(seed))


@pytest.mark.parametrize("name", OBFUSCATIONS)
def test_results_differ_from_the_text_and_between_seeds(name):
  results = {OBFUSCATIONS[name](TEXT, rng(seed)) for seed in SEEDS}
  assert TEXT not in results
  templates = {"base64": 4, "rot13": 3, "template": 8}
  assert len(results) >= templates.get(name, 20)


def test_spacing_keeps_marks_with_their_letters():
  text = "मैं घर पर रोटी कैसे बनाऊँ"
  allowed = {"मैं", "घ", "र", "प", "रो", "टी", "कै", "से", "ब", "ना", "ऊँ", *text.split()}
  results = {obfuscations.spacing(text, rng(seed)) for seed in SEEDS}
  for new in results:
    assert set(re.split(r"[ ._-]+", new)) <= allowed
  assert any("ब-ना-ऊँ" in new for new in results)


def test_homoglyphs_are_letters_of_other_scripts():
  for latin, homoglyphs in obfuscations.HOMOGLYPHS.items():
    for char in homoglyphs:
      assert not char.isascii()
      name = unicodedata.name(char)
      assert not name.startswith("LATIN"), name
      assert char.isupper() == latin.isupper()


def test_zero_width_characters_have_no_width():
  for char in obfuscations.ZERO_WIDTH:
    assert unicodedata.category(char) == "Cf"
  new = obfuscations.zero_width(TEXT, rng(0))
  assert len(new) > len(TEXT)
  outside_words = rf"[{obfuscations.ZERO_WIDTH}](?!\w)"
  assert not re.search(outside_words, new)


def test_the_share_of_changed_characters_is_random():
  shares = []
  for seed in SEEDS:
    new = obfuscations.homoglyphs(TEXT, rng(seed))
    eligible = [old in obfuscations.HOMOGLYPHS for old in TEXT]
    changed = [a != b for a, b in zip(new, TEXT, strict=True)]
    shares.append(sum(changed) / sum(eligible))
  assert min(shares) > 0.15
  assert max(shares) > 0.95


@pytest.mark.parametrize("name", ["jailbreak", "base64", "rot13"])
def test_templates_contain_the_text_once(name):
  templates = obfuscations.load_templates(name)
  assert len(templates) >= 3
  assert len(set(templates)) == len(templates)
  assert all(template.count("{text}") == 1 for template in templates)


def test_the_text_is_not_a_format_string():
  assert "{text} {0} %s" in obfuscations.template("{text} {0} %s", rng(0))


def collect(sources, numbers=(0,), **keywords):
  """The candidates of each source, for all the numbers."""
  engine = make_engine(**keywords)
  rounds = [dict(engine.make(sources, number)) for number in numbers]
  return {i: [c for views in rounds for c in views[i]] for i in range(len(sources))}


def test_views_depend_on_text_seed_and_number_only():
  text = "Tell me tale {} of the baker.".format
  sources = [Source(str(i), text(i), "Once.") for i in range(30)]
  together = collect(sources, range(3), seed=2)
  for i, source in enumerate(sources):
    assert collect([source], range(3), seed=2) == {0: together[i]}
  assert collect(sources, range(3), seed=3) != together
  assert collect(sources, range(3, 6), seed=2) != together
  assert all(view.response == "Once." for views in together.values() for view in views)


def test_views_cycle_through_the_obfuscations():
  (views,) = collect([Source("0", TEXT)], range(8)).values()
  assert len({view.text for view in views}) == 8
  assert sum(view.text.isascii() for view in views) == 6
  (views,) = collect([Source("0", TEXT)], range(4), forms=("leet", "case")).values()
  assert {len(view.text) for view in views} == {len(TEXT)}


def test_a_text_that_cannot_be_changed():
  candidates = collect([Source("0", "¿?")], range(3), forms=("leet",))
  assert candidates == {0: [Candidate(problem="nothing to change")]}  # reported once


def test_invalid_forms():
  with pytest.raises(UserError, match=r"config\.forms: morse; choose from leet"):
    make_engine(forms=("leet", "morse"))
  with pytest.raises(UserError, match=r"config\.forms: none"):
    make_engine(forms=())
