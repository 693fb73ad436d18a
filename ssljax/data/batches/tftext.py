"""Tokenises texts and masks words with tensorflow-text.

The ids of a text are the same as the tokenizer's. The tokenizer's normalizer prepares
the texts. They are split at spaces, and each distinct word goes through a tf.data graph
of tensorflow-text once. The tokenizer itself handles the cases in which the libraries
might differ:
- texts that contain a special token, such as [MASK], or SentencePiece's space symbol;
- words longer than 100 characters, and words with characters outside `PLAIN`;
- with SentencePiece: words that the normalizer of spm.model changes, words with an
  unknown piece, and words whose two best segmentations have nearly equal scores, such
  as "aaa" = a + aa = aa + a. One library adds scores in float32 and the other in
  float64, so the libraries break ties differently.
"""

import contextlib
import json
import os
import re
import warnings

import numpy as np

from ssljax.errors import UserError

# Latin to Cyrillic, jamo, punctuation, symbols, kana, Han, Hangul, emoji; no invisible
# characters. For other scripts the libraries disagree on what punctuation is.
PLAIN = re.compile(
  "[!-~\u00a1-\u00ac\u00ae-\u052f\u1100-\u11ff\u2010-\u2027\u2030-\u205e\u20a0-\u20bf"
  "\u2100-\u2bff\u3001-\u30ff\u4e00-\u9fff\uac00-\ud7a3\U0001f300-\U0001faff]{1,100}"
)
MIN_SCORE_GAP = 1e-3  # log probability; the float32 error in a word is below 1e-4
BATCH = 4096  # words
FORMAT = 1  # of the masks; increase it when a seed masks other words
MASKED = 0.15  # fraction of the words to mask, as in BERT's training
METASPACE = {
  "type": "Metaspace",
  "replacement": "\u2581",
  "prepend_scheme": "always",
  "split": True,
}


def mask_words(tokens, chosen, tokenizer, seed, rate=MASKED):
  """Masks random whole words of some texts with tensorflow-text.

  Either all pieces of a word are masked or none (whole word masking of BERT, Devlin et
  al., arXiv 1810.04805). [CLS] and [SEP] are never masked.

  Args:
    tokens: `tokenize.Tokens` of n texts.
    chosen: i [k], the texts to mask, ascending.
    tokenizer: a tokenizer of transformers with a mask token.
    seed: determines, together with the tokens, which words are masked.
    rate: fraction of a text's words to mask; the number of words is rounded up.

  Returns:
    Tokens with the same lengths.

  Raises:
    UserError: tensorflow-text isn't installed, or there is no mask token.
  """
  tf, text = _import_tensorflow("the view 'masked'")
  if tokenizer.mask_token_id is None:
    raise UserError(
      "the view 'masked': the encoder's tokenizer has no mask token; use another view "
      "or encoder"
    )
  names = ("cls_token_id", "sep_token_id", "pad_token_id")
  special = np.array([getattr(tokenizer, name) for name in names])
  pieces = tokenizer.convert_ids_to_tokens(np.arange(len(tokenizer)).tolist())
  # WordPiece marks the pieces that continue a word. SentencePiece marks the pieces that
  # start a word.
  starts_word = np.array([not piece.startswith("##") for piece in pieces])
  if starts_word.all():
    starts_word = np.array([piece.startswith("\u2581") for piece in pieces])
  starts_word[special] = True
  rows = np.asarray(chosen)
  lengths = tokens.lengths[rows]
  ends = np.cumsum(lengths)
  positions = np.concatenate(
    [np.arange(*tokens.offset[i : i + 2]) for i in rows] or [np.zeros(0, np.int64)]
  )
  ids = tokens.ids[positions]
  is_start = starts_word[ids]
  is_start[ends - lengths] = True
  # A word starts after a special token, whatever the piece.
  is_start[1:] |= np.isin(ids[:-1], special)
  words = np.flatnonzero(is_start)  # the first token of each word
  splits = np.searchsorted(words, np.concatenate([[0], ends]))  # first words of texts
  row = np.repeat(np.arange(len(rows)), np.diff(splits))
  # Shuffle the words of each text and mask the first ones.
  maskable = np.flatnonzero(~np.isin(ids[words], special))
  random = np.random.default_rng(seed).random(len(maskable))
  shuffled = maskable[np.lexsort((random, row[maskable]))]
  count = np.bincount(row[maskable], minlength=len(rows))
  rank = np.arange(len(shuffled)) - np.repeat(np.cumsum(count) - count, count)
  is_masked = np.zeros(len(words), bool)
  is_masked[shuffled[rank < np.ceil(rate * count)[row[shuffled]]]] = True
  splits = [splits, np.concatenate([words, [len(ids)]])]
  ragged = tf.RaggedTensor.from_nested_row_splits(ids, splits)
  selection = tf.RaggedTensor.from_row_splits(is_masked, splits[0])
  # The selector's own choice is slow (a loop over the texts) and not reproducible.
  selector = text.RandomItemSelector(1, rate)
  selector.get_selection_mask = lambda items, axis: selection
  values = text.MaskValuesChooser(len(tokenizer), tokenizer.mask_token_id, 1.0, 0.0)
  masked, _, _ = text.mask_language_model(ragged, selector, values)
  masked_ids = np.array(tokens.ids)
  masked_ids[positions] = masked.flat_values.numpy()
  return tokens._replace(ids=masked_ids)


def make_encoder(backend, folder):
  """Returns an `encode_batch`, which maps texts to lists of ids without special tokens.

  Args:
    backend: the `tokenizers.Tokenizer` to reproduce.
    folder: holds spm.model if the tokenizer is SentencePiece.

  Raises:
    UserError: tensorflow-text isn't installed or doesn't support this tokenizer.
  """
  tf, tensorflow_text = _import_tensorflow("--config.tokenizer_backend=tftext")
  spec = json.loads(backend.to_str())
  builders = {"WordPiece": _wordpiece, "Unigram": _sentencepiece}
  build = builders.get(spec["model"]["type"], lambda *_: None)
  normalize = backend.normalizer.normalize_str if backend.normalizer else str
  built = build(tensorflow_text, tf.int32, spec, normalize, folder / "spm.model")
  if built is None:
    raise UserError(
      f"{folder}: tensorflow-text supports only BERT's WordPiece and DeBERTa-v3's "
      "spm.model, and this tokenizer is neither; use --config.tokenizer_backend=hf"
    )
  tokenizer, is_plain, special = built
  special += [token["content"] for token in spec["added_tokens"]]
  special += [normalize(token) for token in special]
  special = re.compile("|".join(map(re.escape, special)) or "(?!)", re.IGNORECASE)
  pre_tokenize = backend.pre_tokenizer.pre_tokenize_str
  tokenize = backend.model.tokenize

  def encode_plain(words):
    batches = tf.data.Dataset.from_tensor_slices(words).batch(BATCH)
    return [ids for batch in batches.map(tokenizer.tokenize) for ids in batch.to_list()]

  def encode_batch(texts):
    normalized = [normalize(text) for text in texts]
    pairs = enumerate(zip(texts, normalized, strict=True))
    exceptions = [i for i, (a, b) in pairs if special.search(a) or special.search(b)]
    encodings = backend.encode_batch(
      [texts[i] for i in exceptions], add_special_tokens=False
    )
    words_of = [text.split(" ") for text in normalized]
    ids_of = dict.fromkeys(word for words in words_of for word in words)
    plain = [word for word in ids_of if is_plain(word)]
    ids_of.update(zip(plain, encode_plain(plain) if plain else [], strict=True))
    for word, ids in ids_of.items():
      if ids is None:
        pieces = [piece for piece, _ in pre_tokenize(word)]
        ids_of[word] = [token.id for piece in pieces for token in tokenize(piece)]
    batch = [[id_ for word in words for id_ in ids_of[word]] for words in words_of]
    for i, encoding in zip(exceptions, encodings, strict=True):
      batch[i] = encoding.ids
    return batch

  return encode_batch


def _import_tensorflow(feature):
  os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # JAX sets it lower
  try:
    with warnings.catch_warnings(), _silent_stderr():
      warnings.simplefilter("ignore")
      import tensorflow as tf
      import tensorflow_text
  except ImportError as error:
    raise UserError(f"{feature}: {error}; run: pip install -e '.[tftext]'") from error
  tf.config.set_visible_devices([], "GPU")  # the GPU memory is for JAX
  return tf, tensorflow_text


@contextlib.contextmanager
def _silent_stderr():
  """Discards what C++ code writes to stderr before its log level has been set."""
  stderr, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  os.dup2(devnull, 2)
  try:
    yield
  finally:
    os.dup2(stderr, 2)
    os.close(stderr)
    os.close(devnull)


def _wordpiece(text, dtype, spec, normalize, file):
  """(tokenizer, is_plain, special strings), or None if unsupported."""
  model, pre_tokenizer = spec["model"], spec["pre_tokenizer"]
  words = sorted(model["vocab"], key=model["vocab"].get)
  has_gaps = model["vocab"][words[-1]] >= len(words)
  if pre_tokenizer != {"type": "BertPreTokenizer"} or has_gaps:
    return None
  tokenizer = text.FastWordpieceTokenizer(
    words,
    suffix_indicator=model["continuing_subword_prefix"],
    max_bytes_per_word=400,  # UTF-8 bytes of 100 characters, which is_plain checks
    token_out_type=dtype,
    unknown_token=model["unk_token"],
  )
  limit = model["max_input_chars_per_word"]
  return tokenizer, lambda word: len(word) <= limit and PLAIN.fullmatch(word), []


def _sentencepiece(text, dtype, spec, normalize, file):
  """(tokenizer, is_plain, special strings), or None if unsupported."""
  from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

  merges_spaces = normalize("a  b ") == "a b"  # otherwise words could be empty
  is_metaspace = _steps(spec["pre_tokenizer"]) == [METASPACE]
  if not is_metaspace or not merges_spaces or not file.exists():
    return None
  data = file.read_bytes()
  pieces = sentencepiece_model_pb2.ModelProto.FromString(data).pieces
  scores = [(piece.piece, np.float32(piece.score)) for piece in pieces]
  if scores != [(piece, np.float32(score)) for piece, score in spec["model"]["vocab"]]:
    return None
  is_normal = np.array([piece.type == 1 for piece in pieces])
  score = np.array([piece.score for piece in pieces])  # f64 [pieces]
  processor = SentencePieceProcessor(model_proto=data)

  def is_plain(word):
    if not PLAIN.fullmatch(word) or processor.normalize(word) != "\u2581" + word:
      return False
    best = processor.nbest_encode(word, nbest_size=2, out_type=int)
    sums = [score[ids].sum() for ids in best if is_normal[ids].all()]
    if len(sums) < len(best):
      return False
    return len(best) == 1 or sums[0] - sums[1] > MIN_SCORE_GAP

  # Pieces that SentencePiece treats as special are ordinary for the tokenizer.
  special = ["\u2581", *(piece.piece for piece in pieces if piece.type != 1)]
  return text.SentencepieceTokenizer(data, out_type=dtype), is_plain, special


def _steps(pre_tokenizer):
  """The steps of a pre-tokenizer, without those that only split special tokens."""
  if pre_tokenizer is None or pre_tokenizer["type"] == "Split":
    return []
  if pre_tokenizer["type"] != "Sequence":
    return [pre_tokenizer]
  return [step for part in pre_tokenizer["pretokenizers"] for step in _steps(part)]
