"""Tokens are those of the tokenizer, cut from the left, and cached on disk."""

import json
import os
import sys

import numpy as np
import pytest

from ssljax.data.batches import sealed, tokenize
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


def cached(encoder, **options):
  tokens = tokenize.encode_cached(encoder, TEXTS, REPLIES, 64, **options)
  return tokens.ids.tolist()


def change_cached_id(encoder, keep_times=False):
  """Changes the first id in the cache; the file's size stays the same."""
  (path,) = (encoder.parent / "cache" / "tokens").glob("*/ids.npy")
  before = path.stat()
  array = np.load(path)
  array[0] += 1
  np.save(path, array)
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
  if keep_times:  # as if the disk had changed the content
    seal = json.loads((path.parent / "done").read_text())
    after = path.stat()
    stamp = [after.st_size, after.st_mtime_ns, after.st_ctime_ns]
    seal["ids"]["stamp"] = stamp
    (path.parent / "done").write_text(json.dumps(seal))


def test_changed_tokens_in_the_cache_are_computed_again(encoder, capsys):
  expected = cached(encoder)
  change_cached_id(encoder)
  assert cached(encoder) == expected
  assert "damaged; the texts are tokenised again" in capsys.readouterr().err
  assert cached(encoder) == expected
  assert capsys.readouterr().err == ""
  assert len(list((encoder.parent / "cache" / "tokens").iterdir())) == 1


def test_verify_finds_changes_that_left_size_and_times(encoder):
  expected = cached(encoder)
  change_cached_id(encoder, keep_times=True)
  assert cached(encoder) != expected  # without `verify`, nobody looks
  assert cached(encoder, verify=True) == expected
  assert cached(encoder) == expected


def test_a_damaged_cache_that_cannot_be_replaced_is_refused(encoder, monkeypatch):
  cached(encoder)
  change_cached_id(encoder)

  def refuse(*_):
    raise OSError("Read-only file system")

  monkeypatch.setattr(sealed, "write_arrays", refuse)
  with pytest.raises(UserError, match="cannot write the token cache"):
    cached(encoder)


def test_special_tokens_in_a_text_are_text(encoder):
  # Case by case: a prompt that ends with a separator and the start of a response.
  pairs = [("the cat [SEP] sat", "on"), ("the cat", "sat [SEP] on")]
  tokenizer = tokenize.load_tokenizer(encoder)
  ids = [tokenize.encode(tokenizer, [a], [b], 64).text(0)[0].tolist() for a, b in pairs]
  assert ids[0] != ids[1]
  assert [row.count(SEP) for row in ids] == [2, 2]


def test_old_runs_keep_their_tokens(encoder):
  text, old = "the cat [SEP] sat", tokenize.load_tokenizer(encoder, "transformers")
  expected = old(text)["input_ids"]
  tokens = tokenize.encode_cached(
    encoder, [text], [None], 64, tokenization="transformers"
  )
  assert tokens.ids.tolist() == expected
  assert expected.count(SEP) == 2
  new = tokenize.encode_cached(encoder, [text], [None], 64)
  assert new.ids.tolist().count(SEP) == 1


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


def test_a_tokenizer_that_knows_no_word_is_said(encoder, capsys):
  tokenize.encode_cached(encoder, ["a cat", "unheard"], [None, None], 8)
  assert capsys.readouterr().err == ""
  tokenize.encode_cached(encoder, ["unheard words", "words"], [None, "all"], 8)
  assert "100% of the words are unknown ([UNK]); are" in capsys.readouterr().err


def test_no_texts_at_all(encoder):
  tokens = tokenize.encode_cached(encoder, [], [], 8)
  assert len(tokens.ids) == len(tokens.lengths) == 0


def test_ids_without_an_embedding(encoder):
  (encoder / "config.json").write_text(
    json.dumps({"model_type": "bert", "vocab_size": len(VOCABULARY) - 1})
  )
  with pytest.raises(
    UserError, match=f"the embedding has only {len(VOCABULARY) - 1} rows"
  ):
    tokenize.encode_cached(encoder, [" ".join(VOCABULARY)], [None], 64)


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
