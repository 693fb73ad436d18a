"""Texts are normalized as SentencePiece does."""

import random

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer, models

from ssljax.data.batches import charsmap
from tests.data.batches import spm

MARKS = "\u0300\u0301\u0302\u0303\u0304\u0307\u0308\u0309\u0313\u031b\u0323\u0327"
MARKS += "\u0328\u0340\u0342\u0344\u0345\u0654\u093c\u3099"
LETTERS = [
  chr(i)
  for start, end in ((0x41, 0x250), (0x391, 0x3CF), (0x410, 0x460), (0x1EA0, 0x1F10))
  for i in range(start, end)
] + [
  *"\uff41\uff21\U0001d41a\u2468\ufb01\u00bd\u0627\u0915\u304b\uff76\uff5e\u1680\ufffd"
]


def load(folder, name):
  """A model of SentencePiece with this normalization, and our normalizer for it."""
  spm.train(folder, vocab_size=40, normalization_rule_name=name)
  data = (folder / "spm.model").read_bytes()
  spec = sentencepiece_model_pb2.ModelProto.FromString(data).normalizer_spec
  theirs = sentencepiece.SentencePieceProcessor(model_proto=data).normalize
  return theirs, charsmap.normalizer(spec, lower_case=False).normalize_str


@pytest.fixture(scope="module", params=["nmt_nfkc", "nfkc"])
def both(request, tmp_path_factory):
  return load(tmp_path_factory.mktemp("model"), request.param)


def check(both, texts):
  theirs, ours = both
  expected = {text: theirs(text).replace("\u2581", " ").lstrip(" ") for text in texts}
  different = [ascii(text) for text in texts if ours(text) != expected[text]]
  assert not different, different[:10]


def test_every_character(both):
  codes = [*range(2, 0xD800), *range(0xE000, 0xFDD0), *range(0xFDD2, 0x10000)]
  check(both, [f"x{chr(i)}x" for i in codes if i != 0x2581])  # the symbol for spaces


def test_letters_with_a_mark(both):
  check(both, [f"x{letter}{mark}" for letter in LETTERS for mark in MARKS])


def test_letters_with_several_marks(both):
  draw = random.Random(0).choice
  few = [*"aeoucrsdlAEOUCRSDL\u03b1\u03b7\u03c9\u01a1\u00e2\u1ea1\uff41"]
  check(both, [draw(few) + "".join(draw(MARKS) for _ in "123") for _ in range(8000)])


def test_syllables_in_parts(both):
  draw = random.Random(0).choice
  jamo = [chr(i) for i in (*range(0x1100, 0x11C3), *range(0x3131, 0x318F))]
  jamo += [chr(i) for i in (*range(0xAC00, 0xAC80), *range(0xFFA1, 0xFFDC))]
  check(both, ["".join(draw(jamo) for _ in "123") for _ in range(4000)])


@pytest.mark.parametrize(
  ("name", "text"),
  [
    ("nmt_nfkc", "\u00c2\u0301"),  # Vietnamese as typed with Windows-1258
    ("nmt_nfkc", "x\u0344"),
    ("nmt_nfkc", "a\uff5eb"),
    ("nmt_nfkc_cf", "\u0130x"),
    ("nmt_nfkc_cf", "\uff21\u0316 \u00c2\u0301 A\u0302\u0301 B\u0300"),
  ],
)
def test_what_nfkc_changes_and_the_model_does_not(tmp_path, name, text):
  check(load(tmp_path, name), [text])


def test_a_mark_at_the_beginning(both):
  marks = [*MARKS, "\u0ddd", "\u09cb"]
  check(both, marks + [f"{mark}a" for mark in marks])


def test_offsets_are_those_of_the_text(tmp_path):
  pieces = [("<unk>", 0.0), *((chr(i), -1.0) for i in range(0x61, 0x7B))]
  tokenizer = Tokenizer(models.Unigram(pieces, 0))
  load(tmp_path, "nmt_nfkc")
  data = (tmp_path / "spm.model").read_bytes()
  spec = sentencepiece_model_pb2.ModelProto.FromString(data).normalizer_spec
  tokenizer.normalizer = charsmap.normalizer(spec, lower_case=False)
  tokenizer = Tokenizer.from_str(tokenizer.to_str())
  encoding = tokenizer.encode("\u0ddd\u00e2\u0301\u0323b")
  assert encoding.tokens[-1] == "b"
  assert encoding.offsets[-1] == (4, 5)
