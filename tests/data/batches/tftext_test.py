"""tensorflow-text gives the same ids as `tokenizers` for any text."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece

from ssljax.assets import fetch
from ssljax.data.batches import tftext, tokenize
from ssljax.data.records.read import read_splits
from ssljax.data.sources import build
from ssljax.errors import UserError

tf = pytest.importorskip("tensorflow", reason="pip install -e '.[tftext]'")
tensorflow_text = pytest.importorskip(
  "tensorflow_text", reason="pip install -e '.[tftext]'"
)

NASTY = [
  *("", " ", "\n", "\0", "a\0b", "  two  spaces  ", "\ttab\r\nline\n\n", "a\x0bb\x0cc"),
  *("[MASK]", "see [CLS] and [SEP]x", "[mask]", "a[UNK]b", "▁a ▁", "a▁b", "##s ## s#"),
  *(
    "😀",
    "😀😀x",
    "👩‍👩‍👧",
    "👍🏽 ok",
    "☂️",
    "日本語のテキスト",
    "漢字abc",
    "ｱＡ１",
    "한국어",
    "각",
  ),
  *("naïve café", "nai\u0308ve", "\u0301", "a \u0301b", "İstanbul", "Straße ΣΑΣ", "Ǆ"),
  *("ﬁnd ½ ² № ™ … ‽", "a\u200bb\u200cc\u200dd\u2060e\ufefff", "\u00a0a\u2003b\u3000c"),
  *(
    "a\u00adb",
    "\u2028x\u2029",
    "\u202eabc",
    "\ufffd",
    "हिन्दी",
    "العربية",
    "עִבְרִית",
    "ไทย",
  ),
  *(
    "\ue000",
    "\U0002b820",
    "\u2e5d",
    "\u1b7d",
    "\u0a76",
    "\U000e0041",
    "don't...stop!!",
  ),
  *("a" * 100, "a" * 101, "é" * 100, "é" * 101, "각" * 40, "x" * 5000, "a-" * 200),
  *("aaa", "aaaaaaa", "ababab", "hahahaha", "!!!!!!!", "ababa bab", "banana", "aabaab"),
]
ALPHABET = "aaabbAB  .!-\n\t▁#[]\0é\u0301İß漢😀각\u200b\u00a0\u3000ﬁ½अत\u00ad…“"
RANDOM = random.Random(0)
NASTY += ["".join(RANDOM.choices(ALPHABET, k=n)) for n in range(1, 60) for _ in "1234"]
WORDS = [
  "a",
  "b",
  "##a",
  "##b",
  "ab",
  "##ab",
  "A",
  "é",
  "e",
  "##e",
  "漢",
  "#",
  "!",
  ".",
]
WORDS += ["[", "]", "mask", "cls", "-", "##aa", "aa", "ss", "ß", "##ß", "²", "2", "1"]
WORDS += [*map(chr, (0x1100, 0xFFFD, 0x1B7D, 0x2E5D, 0xA76, 0xB0C1)), "…", "😀", "##😀"]


SPM = {"vocab_size": 160, "pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
SPM |= {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]"}
SPM |= {"unk_piece": "[UNK]"}


def wordpiece(folder, **settings):
  words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
  (folder / "vocab.txt").write_text("\n".join(words) + "\n")
  (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
  settings = {"tokenizer_class": "BertTokenizer", **settings}
  (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def spm(folder, **settings):
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([text.replace("\0", "") for text in NASTY] * 20),
    model_prefix=str(folder / "spm"),
    hard_vocab_limit=False,
    character_coverage=0.98,
    minloglevel=2,
    num_threads=1,
    **SPM | settings,
  )
  (folder / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
  (folder / "tokenizer_config.json").write_text(
    json.dumps({"tokenizer_class": "DebertaV2Tokenizer"})
  )


FAMILIES = {
  "uncased": lambda folder: wordpiece(folder, do_lower_case=True),
  "cased": lambda folder: wordpiece(folder, do_lower_case=False),
  "spm": spm,
  "identity": lambda folder: spm(folder, normalization_rule_name="identity"),
  "folding": lambda folder: spm(folder, normalization_rule_name="nmt_nfkc_cf"),
  "symbols": lambda folder: spm(folder, user_defined_symbols=["ab", "-"]),
  "bytes": lambda folder: spm(folder, byte_fallback=True, vocab_size=500),
}


@pytest.fixture(scope="module")
def minilm():
  """The vocabulary of the demo's encoder: 30,522 pieces."""
  return fetch.model_folder("sentence-transformers/all-MiniLM-L6-v2")


@pytest.mark.slow
def test_real_texts_and_a_real_vocabulary(minilm):
  train = read_splits(build.resolve_data("pyrit")).train
  texts = [*train.column("text"), *filter(None, train.column("response"))]
  texts += [f"{a} {b}" for a, b in zip(NASTY, texts, strict=False)]
  assert len(texts) > 1000
  backend = tokenize.load_tokenizer(minilm).backend_tokenizer
  expected = backend.encode_batch(texts, add_special_tokens=False)
  found = tftext.make_encoder(backend, minilm)(texts)
  assert [t for t, a, b in zip(texts, expected, found, strict=True) if a.ids != b] == []


@pytest.mark.slow
def test_whole_words_are_masked_at_the_given_rate(minilm):
  tokenizer = tokenize.load_tokenizer(minilm)
  texts = [
    "unbelievably antidisestablishmentarian bakers bake " * 5,
    "bread",
    "a b c d",
  ]
  plain = tokenize.encode(
    tokenizer, texts * 40, ["some responses", None, None] * 40, 64
  )
  chosen = np.arange(30, 120)
  masked = tftext.mask_words(plain, chosen, tokenizer, 0, rate=0.2)
  np.testing.assert_array_equal(masked.offset, plain.offset)
  sets = set()
  for i in range(120):
    (before, _), (after, _) = plain.text(i), masked.text(i)
    hidden = after != before
    assert (after[hidden] == tokenizer.mask_token_id).all()
    if i < 30:
      assert not hidden.any()
      continue
    assert not hidden[np.isin(before, tokenizer.all_special_ids)].any()
    pieces = tokenizer.convert_ids_to_tokens(before.tolist())
    for k in range(1, len(pieces)):
      if pieces[k].startswith("##"):
        assert hidden[k] == hidden[k - 1]
    words = np.array([not p.startswith(("##", "[")) for p in pieces])
    assert (hidden & words).sum() == np.ceil(0.2 * words.sum())
    sets.add((i % 3, hidden.tobytes()))
  assert len(sets) > 30  # different words in each copy
  again = tftext.mask_words(plain, chosen, tokenizer, 0, rate=0.2)
  np.testing.assert_array_equal(again.ids, masked.ids)
  other = tftext.mask_words(plain, chosen, tokenizer, 1, rate=0.2)
  assert (other.ids != masked.ids).any()


def test_whole_words_are_masked_with_sentencepiece(tmp_path):
  spm(tmp_path)
  tokenizer = tokenize.load_tokenizer(tmp_path)
  plain = tokenize.encode(
    tokenizer, ["ababab baab aabbaa ab a aab"] * 20, [None] * 20, 64
  )
  masked = tftext.mask_words(plain, np.arange(20), tokenizer, 0)
  for i in range(20):
    (before, _), (after, _) = plain.text(i), masked.text(i)
    pieces = tokenizer.convert_ids_to_tokens(before.tolist())
    hidden = after != before
    assert hidden.any()
    assert tokenizer.unk_token not in pieces
    assert not hidden[np.isin(before, tokenizer.all_special_ids)].any()
    for k in range(2, len(pieces) - 1):
      if not pieces[k].startswith("\u2581"):
        assert hidden[k] == hidden[k - 1], pieces


@pytest.fixture(params=FAMILIES)
def encoder(request, tmp_path, monkeypatch):
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  folder = tmp_path / "encoder"
  folder.mkdir()
  FAMILIES[request.param](folder)
  return folder


def test_nasty_texts_get_the_same_ids(encoder):
  backend = tokenize.load_tokenizer(encoder).backend_tokenizer
  expected = backend.encode_batch(NASTY, add_special_tokens=False)
  found = tftext.make_encoder(backend, encoder)(NASTY)
  for text, a, b in zip(NASTY, expected, found, strict=True):
    assert a.ids == b, repr(text)


def test_every_character_gets_the_same_ids(encoder):
  backend = tokenize.load_tokenizer(encoder).backend_tokenizer
  # All up to Hangul, then a sample, and the planes of emoji.
  points = [*range(0xD800), *range(0xE000, 0x10000, 7), *range(0x1F000, 0x1FC00)]
  texts = [f"a{chr(point)}b {chr(point)}" for point in points]
  expected = backend.encode_batch(texts, add_special_tokens=False)
  found = tftext.make_encoder(backend, encoder)(texts)
  assert [t for t, a, b in zip(texts, expected, found, strict=True) if a.ids != b] == []


@pytest.mark.parametrize("encoder", ["uncased", "spm"], indirect=True)
def test_plain_words_go_through_tensorflow(encoder, monkeypatch):
  backend = tokenize.load_tokenizer(encoder).backend_tokenizer
  seen, graphs = [], []
  whole = tf.data.Dataset.from_tensor_slices
  keep = lambda words: seen.extend(words) or whole(words)
  monkeypatch.setattr(tf.data.Dataset, "from_tensor_slices", keep)
  for name in ("FastWordpieceTokenizer", "SentencepieceTokenizer"):
    kind = getattr(tensorflow_text, name)
    call = lambda self, words, call=kind.tokenize: (
      graphs.append(not tf.executing_eagerly()) or call(self, words)
    )
    monkeypatch.setattr(kind, "tokenize", call)
  tftext.make_encoder(backend, encoder)(["ab a [MASK]", "ab a", "a" * 101])
  assert "ab" in seen
  assert "a" * 101 not in seen
  assert graphs
  assert all(graphs)


@pytest.mark.parametrize("encoder", ["uncased", "spm"], indirect=True)
def test_tokens_and_cache_are_shared(encoder, monkeypatch):
  texts, replies = ["ab a b", "aab ba"], [None, "ab"]
  first = tokenize.encode_cached(encoder, texts, replies, 8, "tftext")
  monkeypatch.setattr(tokenize, "load_tokenizer", None)
  second = tokenize.encode_cached(encoder, texts, replies, 8)
  monkeypatch.undo()
  third = tokenize.encode(tokenize.load_tokenizer(encoder), texts, replies, 8)
  for a, b, c in zip(first, second, third, strict=True):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("encoder", ["uncased"], indirect=True)
def test_no_accelerator_is_used(encoder, monkeypatch):
  asked = []
  monkeypatch.setattr(
    tf.config, "set_visible_devices", lambda *given: asked.append(given)
  )
  tftext.make_encoder(tokenize.load_tokenizer(encoder).backend_tokenizer, encoder)
  assert asked == [([], "GPU")]


@pytest.mark.parametrize("encoder", ["spm"], indirect=True)
def test_unsupported_tokenizer(encoder):
  backend = tokenize.load_tokenizer(encoder).backend_tokenizer
  (encoder / "spm.model").unlink()
  with pytest.raises(UserError, match=r"--config\.tokenizer_backend=hf"):
    tftext.make_encoder(backend, encoder)


@pytest.mark.parametrize("encoder", ["uncased"], indirect=True)
def test_nothing_is_printed(encoder):
  code = (
    "from pathlib import Path; from ssljax.data.batches import tftext, tokenize\n"
    f"folder = Path({str(encoder)!r})\n"
    "backend = tokenize.load_tokenizer(folder).backend_tokenizer\n"
    "print(tftext.make_encoder(backend, folder)(['a b']))"
  )
  environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
  done = subprocess.run(
    [sys.executable, "-c", code], env=environment, capture_output=True, text=True
  )
  assert done.stdout.startswith("[[")
  assert done.stderr == ""
