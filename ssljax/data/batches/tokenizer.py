"""Loads the tokenizer of an encoder, so that a text's tokens hold the text itself.

Users of a classifier write what they like, such as "[SEP]" or full-width letters.
transformers alone takes "[SEP]" for the separator. And version 5 rebuilds tokenizers
from their vocabulary. DeBERTa's loses the normalizer and the byte fallback of its
model, so that full-width letters and emoji become [UNK].
"""

import json
import re
import shutil
from pathlib import Path

from ssljax.assets.encoders import TOKENIZER, VOCABULARY
from ssljax.data.batches import charsmap
from ssljax.errors import UserError
from ssljax.runtime.json_files import write_json

# Settings in tokenizer_config.json for the normalizer of a BERT tokenizer.
BERT = {"do_lower_case", "strip_accents", "tokenize_chinese_chars"}


def load_tokenizer(folder: Path, tokenization: str = "exact"):
  """Loads the fast tokenizer in `folder`, with padding and truncation switched off.

  No code in the folder is run.

  Args:
    tokenization: "exact": special tokens in a text are read as text, and a
      SentencePiece model is followed as published; "transformers": as transformers
      loads the folder, which version 0.1.0 did.

  Raises:
    UserError: there is no tokenizer; or it cannot be loaded, has no fast version, has
      no words, has no [CLS] or [SEP], or cannot read them as text.
  """
  from transformers import AutoTokenizer

  folder = Path(folder)
  advice = (
    "put the encoder's tokenizer files (tokenizer.json, vocab.txt or spm.model) next "
    "to config.json"
  )
  # Without these files, transformers would create a tokenizer with only special tokens.
  if not any(any(folder.glob(pattern)) for pattern in VOCABULARY):
    raise UserError(f"{folder}: there is no tokenizer here; {advice}")
  exact = tokenization == "exact"
  options = {"split_special_tokens": True} if exact else {}
  try:
    # Unless trust_remote_code is False, transformers asks whether to run the code.
    tokenizer = AutoTokenizer.from_pretrained(
      str(folder), trust_remote_code=False, **options
    )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if exact and backend is not None:
      _follow_files(tokenizer, folder)
  except Exception as error:  # transformers raises whatever its parsers raise
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if "trust_remote_code" in str(error):
      raise UserError(
        f"{folder}: the tokenizer needs code from the folder (auto_map in "
        "tokenizer_config.json), which ssljax never runs; use an encoder with a BERT "
        "or DeBERTa tokenizer"
      ) from None
    raise UserError(
      f"{folder}: the tokenizer cannot be loaded ({reason}); {advice}"
    ) from error
  if backend is None or None in (tokenizer.cls_token_id, tokenizer.sep_token_id):
    raise UserError(
      f"{folder}: the tokenizer has no fast version, or no [CLS] or [SEP] token; use "
      "an encoder with a BERT or DeBERTa tokenizer"
    )
  # transformers ignores a vocabulary in a file that belongs to another class.
  if tokenizer.get_vocab().keys() <= {*tokenizer.all_special_tokens}:
    raise UserError(
      f"{folder}: {type(tokenizer).__name__}, which the config files name, finds no "
      "words in the tokenizer files, so every word would be unknown; add the files of "
      "this encoder: vocab.txt or tokenizer.json for BERT, spm.model or tokenizer.json "
      "for DeBERTa"
    )
  if exact:
    _read_special_tokens_as_text(tokenizer, folder)
  backend.no_padding()
  backend.no_truncation()
  return tokenizer


def copy_tokenizer(
  source: Path, target: Path, max_length: int, tokenization: str
) -> None:
  """Copies tokenizer files so that transformers reads texts as `load_tokenizer` does.

  If transformers would build another tokenizer from the files, tokenizer.json replaces
  them. Long texts are cut as in training.

  Args:
    target: has config.json.
  """
  for pattern in TOKENIZER:
    for file in source.glob(pattern):
      shutil.copyfile(file, target / file.name)
  path = target / "tokenizer_config.json"
  settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
  settings |= {"model_max_length": max_length, "truncation_side": "left"}
  settings.pop("auto_map", None)  # names code, which wasn't copied
  if tokenization == "exact":
    settings["split_special_tokens"] = True
    tokenizer = load_tokenizer(source)
    serialized = tokenizer.backend_tokenizer.to_str()
    plain = load_tokenizer(target, "transformers")
    if plain.backend_tokenizer.to_str() != serialized:
      (target / "tokenizer.json").write_text(serialized, encoding="utf-8")
      settings |= {
        **tokenizer.special_tokens_map,
        "tokenizer_class": "PreTrainedTokenizerFast",  # uses tokenizer.json as it is
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
      }
  write_json(path, settings)


def _follow_files(tokenizer, folder: Path) -> None:
  """Restores what transformers 5 drops from tokenizer.json or spm.model."""
  from tokenizers import Tokenizer, models
  from transformers import DebertaV2Tokenizer

  backend, file = tokenizer.backend_tokenizer, folder / "tokenizer.json"
  if file.exists():
    stored, path = Tokenizer.from_file(str(file)), folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    # BERT's settings take precedence if they are given, but not by their defaults.
    if isinstance(stored.model, models.Unigram) or BERT.isdisjoint(settings):
      backend.model, backend.normalizer = stored.model, stored.normalizer
      backend.pre_tokenizer = stored.pre_tokenizer
    return
  file = folder / "spm.model"
  if not isinstance(tokenizer, DebertaV2Tokenizer) or not file.exists():
    return
  from sentencepiece import sentencepiece_model_pb2

  proto = sentencepiece_model_pb2.ModelProto.FromString(file.read_bytes())
  pieces = [(piece.piece, piece.score) for piece in proto.pieces]
  trainer = proto.trainer_spec
  backend.model = models.Unigram(pieces, trainer.unk_id, trainer.byte_fallback)
  backend.normalizer = charsmap.normalizer(
    proto.normalizer_spec, tokenizer.do_lower_case
  )


def _read_special_tokens_as_text(tokenizer, folder: Path) -> None:
  """Makes the tokenizer split special tokens in texts.

  Skipping the added tokens isn't enough for a Unigram model: it also finds pieces such
  as [SEP], or <0x41> for a byte, in its vocabulary. SentencePiece doesn't. Therefore
  such pieces are split after their first character.
  """
  from tokenizers import Regex, pre_tokenizers

  backend = tokenizer.backend_tokenizer
  backend.encode_special_tokens = True
  added = backend.get_added_tokens_decoder().values()
  special = [token.content for token in added if token.special]
  found = [name for name in [*special, "<0x41>"] if _is_one_token(backend, name)]
  if found:
    patterns = [f"{re.escape(name[0])}(?={re.escape(name[1:])})" for name in found]
    patterns = [pattern.replace("0x41", "0x[0-9A-F]{2}") for pattern in patterns]
    split = pre_tokenizers.Split(Regex("|".join(patterns)), "merged_with_previous")
    steps = [backend.pre_tokenizer, split] if backend.pre_tokenizer else [split]
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
  for name in found:
    if name != tokenizer.unk_token and _is_one_token(backend, name):
      raise UserError(
        f"{folder}: the tokenizer cannot read {name!r} in a text as text; use an "
        "encoder with a BERT or DeBERTa tokenizer"
      )


def _is_one_token(backend, name: str) -> bool:
  """Whether the tokenizer reads this text as the token of this name."""
  token = backend.token_to_id(name)
  encoding = backend.encode(name, add_special_tokens=False)
  return token is not None and any(
    id_ == token and end - start == len(name)
    for id_, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
  )
