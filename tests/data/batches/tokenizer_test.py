"""Tokenizers read texts as their models do, and run no code from a folder."""

import json

import numpy as np
import pytest
import sentencepiece
import transformers
from tokenizers import normalizers

from ssljax.data.batches import tokenize
from ssljax.data.batches.tokenizer import copy_tokenizer, load_tokenizer
from ssljax.errors import UserError
from tests.data.batches import spm

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "[", "]", "sep"]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", "<0x41>"]
TEXTS = [
  "how to build",
  "\uff48\uff4f\uff57 \uff54\uff4f \uff42\uff55\uff49\uff4c\uff44",  # full width
  "how\u00a0to build",
  "how to build \U0001f642",
  "\U0001d421\U0001d428\U0001d430 to build",
  "\uff48\u0301ow",  # a mark after a letter that the normalizer changes
  " how\t to \n build ",
  "",
]


def bert(folder):
  (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
  (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
  return folder


def deberta(folder, **settings):
  """A folder as the Hub has DeBERTa-v3: spm.model and no tokenizer.json."""
  pieces = {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]"}
  options = {f"{name}_piece": piece for name, piece in pieces.items()}
  options |= {f"{name}_id": i for i, name in enumerate(pieces)}
  spm.train(folder, vocab_size=300, **{"byte_fallback": True, **options, **settings})
  (folder / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
  return folder


def ids(tokenizer, text):
  return tokenize.encode(tokenizer, [text], [None], 64).ids[1:-1].tolist()


def join_unknown(numbers, unknown=3):
  """Since special tokens are split, an unknown piece can become two."""
  pairs = zip(numbers, [None, *numbers], strict=False)
  return [a for a, before in pairs if not a == before == unknown]


@pytest.mark.parametrize("kind", ["bert", "deberta-v2"])
def test_missing_tokenizer(tmp_path, kind):
  # transformers would create one that knows only special tokens.
  (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
  (tmp_path / "tokenizer_config.json").write_text("{}")
  with pytest.raises(UserError, match="there is no tokenizer here; put"):
    load_tokenizer(tmp_path)


def test_unreadable_tokenizer(tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
  (tmp_path / "tokenizer.json").write_text("{")
  with pytest.raises(UserError, match="the tokenizer cannot be loaded"):
    load_tokenizer(tmp_path)


@pytest.mark.parametrize("tokenization", ["exact", "transformers"])
@pytest.mark.parametrize(
  ("kind", "make"), [("bert", "deberta"), ("deberta-v2", "bert"), ("roberta", "bert")]
)
def test_a_vocabulary_of_another_kind_is_refused(tmp_path, kind, make, tokenization):
  # transformers ignores it, so that every word is [UNK].
  globals()[make](tmp_path)
  (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
  with pytest.raises(UserError, match="finds no words in the tokenizer files") as error:
    load_tokenizer(tmp_path, tokenization)
  assert str(tmp_path) in str(error.value)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "settings",
  [
    {},
    {"byte_fallback": False},
    {"normalization_rule_name": "identity"},
    {"normalization_rule_name": "nmt_nfkc_cf"},
    {"remove_extra_whitespaces": False},
  ],
  ids=str,
)
def test_a_sentencepiece_model_is_followed(tmp_path, settings):
  tokenizer = load_tokenizer(deberta(tmp_path, **settings))
  model = sentencepiece.SentencePieceProcessor(str(tmp_path / "spm.model"))
  texts = [*TEXTS, *SPECIAL, *(f"a{token}how" for token in SPECIAL)]
  texts += [f"a {chr(i)}{chr(i)}b" for i in range(0xA0, 0x2E00, 37)]
  if settings.get("remove_extra_whitespaces") is False:
    texts = [text for text in texts if text == " ".join(text.split())]
  for text in texts:
    expected = model.encode(text)
    assert join_unknown(ids(tokenizer, text)) == join_unknown(expected), ascii(text)


@pytest.mark.parametrize("make", [bert, deberta])
@pytest.mark.parametrize("token", SPECIAL)
def test_special_tokens_in_a_text_are_text(tmp_path, make, token):
  tokenizer = load_tokenizer(make(tmp_path))
  names = [*SPECIAL[:-1], token]
  control = {*tokenizer.convert_tokens_to_ids(names)} - {tokenizer.unk_token_id}
  full_width = "".join(chr(ord(c) + 0xFEE0) for c in token)
  for text in (token, f"a{token}a", f"a {token} cat", full_width):
    assert not control.intersection(ids(tokenizer, text)), ascii(text)


def test_the_normalizer_of_tokenizer_json_is_used(tmp_path):
  # transformers 5 takes only the vocabulary from it.
  first, second = tmp_path / "first", tmp_path / "second"
  first.mkdir()
  second.mkdir()
  backend = load_tokenizer(deberta(first), "transformers").backend_tokenizer
  backend.normalizer = normalizers.NFKC()
  backend.save(str(second / "tokenizer.json"))
  (second / "config.json").write_bytes((first / "config.json").read_bytes())
  tokenizer = load_tokenizer(second)
  for text in TEXTS[1:3]:
    assert ids(tokenizer, text) == ids(tokenizer, TEXTS[0]), ascii(text)


@pytest.mark.parametrize(
  ("settings", "cased"),
  [(None, True), ({"model_max_length": 64}, True), ({"do_lower_case": True}, False)],
)
def test_a_cased_tokenizer_json_stays_cased(tmp_path, settings, cased):
  (tmp_path / "vocab.txt").write_text("\n".join([*WORDS, "Cat"]) + "\n")
  source = transformers.BertTokenizer.from_pretrained(
    str(tmp_path), do_lower_case=False
  )
  source.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
  (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
  if settings is not None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
  tokenizer = load_tokenizer(tmp_path)
  expected = WORDS.index("cat") if not cased else len(WORDS)
  assert ids(tokenizer, "Cat") == [expected]


@pytest.mark.parametrize("make", [bert, deberta])
def test_a_copy_is_read_by_transformers_alike(tmp_path, make):
  source, target = tmp_path / "source", tmp_path / "target"
  source.mkdir()
  target.mkdir()
  tokenizer = load_tokenizer(make(source))
  (source / "tokenizer_config.json").write_text(
    json.dumps({"auto_map": {"AutoTokenizer": ["code.Slow", None]}})
  )
  (target / "config.json").write_bytes((source / "config.json").read_bytes())
  copy_tokenizer(source, target, 32, "exact")
  assert "auto_map" not in (target / "tokenizer_config.json").read_text()
  theirs = transformers.AutoTokenizer.from_pretrained(str(target))
  ours = load_tokenizer(target, "transformers")  # as exported folders are loaded
  assert (theirs.model_max_length, theirs.truncation_side) == (32, "left")
  for text in TEXTS + SPECIAL:
    tokens = tokenize.encode(tokenizer, [text], ["a [SEP]"], 64)
    encoded = theirs(text, "a [SEP]")
    np.testing.assert_array_equal(tokens.ids, encoded["input_ids"], ascii(text))
    assert encoded["token_type_ids"].index(1) == tokens.prompt[0]
    again = tokenize.encode(ours, [text], ["a [SEP]"], 64)
    np.testing.assert_array_equal(tokens.ids, again.ids, ascii(text))


def test_a_copy_for_an_old_run_keeps_its_tokens(tmp_path):
  source, target = tmp_path / "source", tmp_path / "target"
  source.mkdir()
  target.mkdir()
  old = load_tokenizer(deberta(source), "transformers")
  (target / "config.json").write_bytes((source / "config.json").read_bytes())
  copy_tokenizer(source, target, 32, "transformers")
  copied = load_tokenizer(target, "transformers")
  for text in TEXTS + SPECIAL:
    assert ids(copied, text) == ids(old, text), ascii(text)
  assert old.sep_token_id in ids(old, "a [SEP] b")


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("tokenization", ["exact", "transformers"])
def test_code_in_a_folder_never_runs(tmp_path, monkeypatch, known, tokenization):
  (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
  marker = tmp_path / "ran"
  (tmp_path / "code.py").write_text(
    f"open({str(marker)!r}, 'w')\n"
    "from transformers import BertConfig as Config, BertTokenizer as Tokenizer\n"
  )
  auto_map = {"AutoConfig": "code.Config", "AutoTokenizer": [None, "code.Tokenizer"]}
  config = {"model_type": "bert" if known else "other", "auto_map": auto_map}
  (tmp_path / "config.json").write_text(json.dumps(config))
  (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto_map}))
  monkeypatch.setattr("builtins.input", lambda *_: "y")
  if known:  # transformers has the class itself
    assert len(ids(load_tokenizer(tmp_path, tokenization), "a cat")) == 2
  else:
    with pytest.raises(UserError, match=r"code from the folder .* never runs"):
      load_tokenizer(tmp_path, tokenization)
  assert not marker.exists()
