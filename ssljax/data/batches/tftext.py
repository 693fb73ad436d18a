"""Texts to ids by tensorflow-text, id for id as the tokenizer itself does it; masks.

A text is normalised by the tokenizer's own normalizer and cut at its spaces; then its
words go through a tf.data graph of tensorflow-text that makes ids, each different word
once. Where it might differ the reference does so:
- texts that spell a special token, as [MASK], or SentencePiece's mark of a space;
- words longer than 100 characters, or with characters outside `PLAIN`;
- SentencePiece: words that spm.model's normalizer changes, words with an unknown piece,
  and words whose two best segmentations score alike, as "aaa" = a + aa = aa + a: one
  library adds in float32, the other in float64, and so they break ties differently.
"""

import contextlib
import json
import os
import re
import warnings

import numpy as np

from ssljax.errors import UserError

# Latin to Cyrillic, jamo, punctuation, symbols, kana, Han, Hangul, emoji. Of other
# scripts the libraries' tables of punctuation differ, and nothing invisible is here.
PLAIN = re.compile(
  "[!-~\u00a1-\u00ac\u00ae-\u052f\u1100-\u11ff\u2010-\u2027\u2030-\u205e\u20a0-\u20bf"
  "\u2100-\u2bff\u3001-\u30ff\u4e00-\u9fff\uac00-\ud7a3\U0001f300-\U0001faff]{1,100}"
)
GAP = 1e-3  # of log probability; in a word float32 errs by less than 1e-4
BATCH = 4096  # words
FORMAT = 1  # of the masks; raise it when the same seed hides other words
MASKED = 0.15  # of the words, as BERT was trained
SPACES = {
  "type": "Metaspace",
  "replacement": "\u2581",
  "prepend_scheme": "always",
  "split": True,
}


def mask_words(tokens, chosen, tokenizer, seed, rate=MASKED):
  """Hides whole words of some texts behind the mask token, by tensorflow-text.

  A word is masked as a span, all its pieces or none (Devlin et al., arXiv 1810.04805,
  whole word masking). [CLS] and [SEP] are never masked.

  Args:
    tokens: `tokenize.Tokens` of n texts.
    chosen: i [k], which texts, ascending.
    tokenizer: of transformers; it has a mask token.
    seed: decides which words, with the tokens.
    rate: share of a text's words, rounded up.

  Returns:
    Tokens of the same lengths.

  Raises:
    UserError: tensorflow-text is not installed, or there is no mask token.
  """
  tf, text = _libraries("the view 'masked'")
  if tokenizer.mask_token_id is None:
    raise UserError("the view 'masked': the encoder's tokenizer has no mask token")
  names = ("cls_token_id", "sep_token_id", "pad_token_id")
  special = np.array([getattr(tokenizer, name) for name in names])
  pieces = tokenizer.convert_ids_to_tokens(np.arange(len(tokenizer)).tolist())
  # WordPiece marks what goes on, SentencePiece what begins.
  begins = np.array([not piece.startswith("##") for piece in pieces])
  if begins.all():
    begins = np.array([piece.startswith("\u2581") for piece in pieces])
  begins[special] = True
  rows = np.asarray(chosen)
  lengths = tokens.lengths[rows]
  places = np.concatenate(
    [np.arange(*tokens.offset[i : i + 2]) for i in rows] or [np.zeros(0, np.int64)]
  )
  ids = tokens.ids[places]
  first = begins[ids]
  ends = np.cumsum(lengths)
  first[np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(rows)]] = True
  # What follows a special token begins, whatever its piece says.
  first[1:] |= np.isin(ids[:-1], special)
  words = np.flatnonzero(first)
  splits = np.searchsorted(words, np.concatenate([[0], ends]))  # of words by text
  row = np.repeat(np.arange(len(rows)), np.diff(splits))
  # The share of each text's words that come first in an order drawn for it.
  may = np.flatnonzero(~np.isin(ids[words], special))
  order = may[np.lexsort((np.random.default_rng(seed).random(len(may)), row[may]))]
  count = np.bincount(row[may], minlength=len(rows))
  place = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
  hidden = np.zeros(len(words), bool)
  hidden[order[place < np.ceil(rate * count)[row[order]]]] = True
  splits = [splits, np.concatenate([words, [len(ids)]])]
  ragged = tf.RaggedTensor.from_nested_row_splits(ids, splits)
  chosen = tf.RaggedTensor.from_row_splits(hidden, splits[0])
  # Its own draw is a loop over the texts, and not the same each time.
  selector = text.RandomItemSelector(1, rate)
  selector.get_selection_mask = lambda some, axis: chosen
  values = text.MaskValuesChooser(len(tokenizer), tokenizer.mask_token_id, 1.0, 0.0)
  masked, _, _ = text.mask_language_model(ragged, selector, values)
  changed = np.array(tokens.ids)
  changed[places] = masked.flat_values.numpy()
  return tokens._replace(ids=changed)


def make(backend, folder):
  """The twin of `backend.encode_batch` without special tokens: texts to lists of ids.

  Args:
    backend: a `tokenizers.Tokenizer`, the reference.
    folder: holds spm.model, for SentencePiece.

  Raises:
    UserError: tensorflow-text is not installed, or cannot do this tokenizer.
  """
  tf, tensorflow_text = _libraries("--config.tokenizer_backend=tftext")
  parts = json.loads(backend.to_str())
  family = {"WordPiece": _wordpiece, "Unigram": _sentencepiece}
  normalise = backend.normalizer.normalize_str if backend.normalizer else str
  made = family.get(parts["model"]["type"], lambda *_: None)(
    tensorflow_text, tf.int32, parts, normalise, folder / "spm.model"
  )
  if made is None:
    raise UserError(
      f"{folder}: tensorflow_text can do BERT's WordPiece and DeBERTa-v3's spm.model, "
      "and this is another tokenizer; take --config.tokenizer_backend=hf"
    )
  tokenizer, plain, special = made
  special += [token["content"] for token in parts["added_tokens"]]
  special += [normalise(token) for token in special]
  special = re.compile("|".join(map(re.escape, special)) or "(?!)", re.IGNORECASE)
  cut, one = backend.pre_tokenizer.pre_tokenize_str, backend.model.tokenize

  def ids_of(words):
    batches = tf.data.Dataset.from_tensor_slices(words).batch(BATCH)
    return [ids for some in batches.map(tokenizer.tokenize) for ids in some.to_list()]

  def encode_batch(texts):
    clean = [normalise(text) for text in texts]
    pairs = enumerate(zip(texts, clean, strict=True))
    odd = [i for i, (a, b) in pairs if special.search(a) or special.search(b)]
    whole = backend.encode_batch([texts[i] for i in odd], add_special_tokens=False)
    words = [text.split(" ") for text in clean]
    every = dict.fromkeys(word for some in words for word in some)  # each once
    easy = [word for word in every if plain(word)]
    found = ids_of(easy) if easy else []
    every.update(zip(easy, found, strict=True))
    for word, found in every.items():
      if found is None:
        every[word] = [token.id for part, _ in cut(word) for token in one(part)]
    ids = [[n for word in some for n in every[word]] for some in words]
    for i, found in zip(odd, whole, strict=True):
      ids[i] = found.ids
    return ids

  return encode_batch


def _libraries(what):
  os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # JAX has set it lower
  try:
    with warnings.catch_warnings(), _no_stderr():
      warnings.simplefilter("ignore")
      import tensorflow as tf
      import tensorflow_text
  except ImportError as error:
    raise UserError(f"{what}: {error}; run: pip install -e '.[tftext]'") from error
  tf.config.set_visible_devices([], "GPU")  # all of it is JAX's
  return tf, tensorflow_text


@contextlib.contextmanager
def _no_stderr():
  """What C++ code writes there before its level of logging is read goes nowhere."""
  kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)


def _wordpiece(text, dtype, parts, normalise, file):
  model, cutter = parts["model"], parts["pre_tokenizer"]
  words = sorted(model["vocab"], key=model["vocab"].get)
  if cutter != {"type": "BertPreTokenizer"} or model["vocab"][words[-1]] >= len(words):
    return None
  tokenizer = text.FastWordpieceTokenizer(
    words,
    suffix_indicator=model["continuing_subword_prefix"],
    max_bytes_per_word=400,  # of UTF-8; characters are counted in `plain`
    token_out_type=dtype,
    unknown_token=model["unk_token"],
  )
  limit = model["max_input_chars_per_word"]
  return tokenizer, lambda word: len(word) <= limit and PLAIN.fullmatch(word), []


def _sentencepiece(text, dtype, parts, normalise, file):
  from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

  steps = (parts["pre_tokenizer"] or {}).get("pretokenizers", [parts["pre_tokenizer"]])
  spaces = normalise("a \n b ") == "a b"  # so that no word is empty
  if steps != [SPACES] or not spaces or not file.exists():
    return None
  data = file.read_bytes()
  pieces = sentencepiece_model_pb2.ModelProto.FromString(data).pieces
  ours = [(piece.piece, np.float32(piece.score)) for piece in pieces]
  if ours != [(piece, np.float32(score)) for piece, score in parts["model"]["vocab"]]:
    return None
  normal = np.array([piece.type == 1 for piece in pieces])
  score = np.array([piece.score for piece in pieces])  # f64 [pieces]
  processor = SentencePieceProcessor(model_proto=data)

  def plain(word):
    if not PLAIN.fullmatch(word) or processor.normalize(word) != "\u2581" + word:
      return False
    best = processor.nbest_encode(word, nbest_size=2, out_type=int)
    sums = [score[ids].sum() for ids in best if normal[ids].all()]
    return len(sums) == len(best) and (len(best) == 1 or sums[0] - sums[1] > GAP)

  # What is no normal piece to SentencePiece is like any other to the reference.
  special = ["\u2581", *(piece.piece for piece in pieces if piece.type != 1)]
  return text.SentencepieceTokenizer(data, out_type=dtype), plain, special
