"""Tokens are those of the tokenizer, cut from the left, and cached on disk."""

import json
import sys

import numpy as np
import pytest

from ssljax.data.batches import tokenize
from ssljax.errors import UserError

WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "##s", "."]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
CLS, SEP = 2, 3
TEXTS = ["the cat sat", "A dogs ran.", "", "the unheard mat on a mat . ", "cats"]
REPLIES = ["on the mat", None, "dogs", "a cat ran", None]


@pytest.fixture
def encoder(tmp_path, monkeypatch):
  """A folder with a tiny tokenizer, and an empty cache."""
  monkeypatch.setenv("SSLJAX_CACHE", str(tmp_path / "cache"))
  folder = tmp_path / "encoder"
  folder.mkdir()
  (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
  settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
  (folder / "tokenizer_config.json").write_text(json.dumps(settings))
  (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
  return folder


def ids(*words):
  return [VOCABULARY.index(word) for word in words]


def test_short_texts_are_encoded_like_the_tokenizer(encoder):
  tokenizer = tokenize.load_tokenizer(encoder)
  tokens = tokenize.encode(tokenizer, TEXTS, REPLIES, 64)
  for i, (text, reply) in enumerate(zip(TEXTS, REPLIES, strict=True)):
    expected = tokenizer(text, reply) if reply is not None else tokenizer(text)
    token_ids, prompt = tokens.text(i)
    np.testing.assert_array_equal(token_ids, expected["input_ids"])
    kinds = np.arange(len(token_ids)) >= prompt
    np.testing.assert_array_equal(kinds, expected["token_type_ids"])
  assert not tokens.truncated.any()
  assert tokens.lengths.sum() == len(tokens.ids)


@pytest.mark.parametrize(
  ("reply", "limit", "prompt_left", "reply_left"),
  [
    (None, 8, 6, 0),  # everything fits
    (None, 7, 5, 0),
    (None, 4, 2, 0),
    ("dog ran .", 12, 6, 3),
    ("dog ran .", 11, 5, 3),  # the prompt is cut first
    ("dog ran .", 7, 1, 3),
    ("dog ran .", 6, 2, 1),  # the response leaves no room: longest first
    ("dog ran .", 5, 1, 1),
    ("dog ran .", 4, 1, 0),
  ],
)
def test_long_texts_lose_their_beginning(
  encoder, reply, limit, prompt_left, reply_left
):
  tokenizer = tokenize.load_tokenizer(encoder)
  text = "the cat sat on a mat"
  tokens = tokenize.encode(tokenizer, [text], [reply], limit)
  expected = [CLS, *ids(*text.split())[6 - prompt_left :], SEP]
  assert tokens.prompt[0] == len(expected)
  if reply is not None:
    expected += [*ids(*reply.split())[3 - reply_left :], SEP]
  np.testing.assert_array_equal(tokens.text(0)[0], expected)
  whole = prompt_left == 6 and reply_left == (0 if reply is None else 3)
  assert tokens.truncated[0] == (not whole)


def test_several_chunks_keep_their_order(encoder, monkeypatch):
  tokenizer = tokenize.load_tokenizer(encoder)
  whole = tokenize.encode(tokenizer, TEXTS, REPLIES, 8)
  monkeypatch.setattr(tokenize, "CHUNK", 2)
  parts = tokenize.encode(tokenizer, TEXTS, REPLIES, 8)
  for a, b in zip(whole, parts, strict=True):
    np.testing.assert_array_equal(a, b)


def test_cached_tokens_need_no_tokenizer(encoder, monkeypatch):
  first = tokenize.encode_cached(encoder, TEXTS, REPLIES, 64)
  monkeypatch.setattr(tokenize, "load_tokenizer", None)
  second = tokenize.encode_cached(encoder, TEXTS, REPLIES, 64)
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a, b)
    assert a.dtype == b.dtype
  folders = list((encoder.parent / "cache" / "tokens").iterdir())
  assert len(folders) == 1  # no temporary folders are left


def test_views_are_computed_once(encoder):
  make = lambda: (["the cat", "a mat", "dog"], [None] * 3, np.array([0, 2, 3]))
  tokens, begin = tokenize.encode_views_cached(
    encoder, ["x", "y"], [None, None], 64, make
  )
  assert begin.tolist() == [0, 2, 3]
  again = tokenize.encode_views_cached(encoder, ["x", "y"], [None, None], 64, None)
  for a, b in zip((*tokens, begin), (*again[0], again[1]), strict=True):
    np.testing.assert_array_equal(a, b)
  assert tokens.text(2)[0].tolist() == [CLS, *ids("dog"), SEP]


def test_the_key_covers_everything_that_matters(encoder):
  def key(texts=("a", "b"), replies=(None, None), limit=8):
    return tokenize._cache_key(encoder, texts, replies, limit)

  keys = [
    key(),
    key(texts=("a", "c")),
    key(texts=("ab", "")),
    key(texts=("", "ab")),
    key(texts=("b", "a")),
    key(replies=(None, "")),
    key(replies=("", None)),
    key(limit=9),
  ]
  assert key() == keys[0]
  (encoder / "vocab.txt").write_text("\n".join(reversed(VOCABULARY)) + "\n")
  keys.append(key())
  assert len(set(keys)) == len(keys)


def test_no_texts_at_all(encoder):
  tokens = tokenize.encode_cached(encoder, [], [], 8)
  assert len(tokens.ids) == len(tokens.lengths) == 0


@pytest.mark.parametrize("kind", ["bert", "deberta-v2"])
def test_missing_tokenizer(tmp_path, kind):
  # transformers would create one that knows only special tokens.
  (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
  (tmp_path / "tokenizer_config.json").write_text("{}")
  with pytest.raises(UserError, match="there is no tokenizer here; put"):
    tokenize.load_tokenizer(tmp_path)


def test_unreadable_tokenizer(tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
  (tmp_path / "tokenizer.json").write_text("{")
  with pytest.raises(UserError, match="the tokenizer cannot be loaded"):
    tokenize.load_tokenizer(tmp_path)


def test_ids_without_an_embedding(encoder):
  (encoder / "config.json").write_text(
    json.dumps({"model_type": "bert", "vocab_size": len(VOCABULARY) - 1})
  )
  with pytest.raises(
    UserError, match=f"the embedding has only {len(VOCABULARY) - 1} rows"
  ):
    tokenize.encode_cached(encoder, [" ".join(VOCABULARY)], [None], 64)


def test_a_folder_with_only_a_sentencepiece_model(tmp_path):
  import sentencepiece

  (tmp_path / "texts.txt").write_text("\n".join([*filter(None, TEXTS)] * 20))
  sentencepiece.SentencePieceTrainer.train(
    input=str(tmp_path / "texts.txt"),
    model_prefix=str(tmp_path / "spm"),
    vocab_size=40,
    hard_vocab_limit=False,
    pad_id=0,
    unk_id=3,
    bos_id=1,
    eos_id=2,
    pad_piece="[PAD]",
    unk_piece="[UNK]",
    bos_piece="[CLS]",
    eos_piece="[SEP]",
  )
  (tmp_path / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
  (tmp_path / "texts.txt").unlink()
  tokenizer = tokenize.load_tokenizer(tmp_path)
  token_ids, _ = tokenize.encode(tokenizer, ["the cat"], [None], 64).text(0)
  model = sentencepiece.SentencePieceProcessor(str(tmp_path / "spm.model"))
  assert token_ids.tolist() == [1, *model.encode("the cat"), 2]


def test_missing_tensorflow_text(encoder, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow", None)  # an import of it fails
  with pytest.raises(UserError, match=r"pip install -e '\.\[tftext\]'"):
    tokenize.encode_cached(encoder, TEXTS, REPLIES, 8, "tftext")


@pytest.mark.parametrize(
  "name", ["sentencepiece.bpe.model", "merges.txt", "config.json"]
)
def test_the_key_covers_the_vocabulary_files(tmp_path, name):
  keys = set()
  for content in ("one", "other"):
    (tmp_path / name).write_text(content)
    keys.add(tokenize._cache_key(tmp_path, ["text"], [None], 8))
  (tmp_path / "README.md").write_text("no vocabulary")
  keys.add(tokenize._cache_key(tmp_path, ["text"], [None], 8))
  assert len(keys) == 2
