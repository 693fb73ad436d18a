"""Noise on token ids follows the rules of `word_noise`, text by text."""

import numpy as np
import pytest
import tokenizers

from ssljax.data.batches import order, token_noise, token_words, word_noise
from ssljax.data.batches.token_words import count_words, find_words, make_table

CLS, SEP, MASK, UNK = "[CLS]", "[SEP]", "[MASK]", "[UNK]"
LONG = "x" * 31
GAP = None  # an id without a piece


class Tokenizer:
  """A tokenizer of transformers, as far as `make_table` knows it."""

  def __init__(self, model, pieces):
    self.pieces = [CLS, SEP, "[PAD]", UNK, MASK, *pieces]
    self.backend_tokenizer = tokenizers.Tokenizer(model)
    self.cls_token_id, self.sep_token_id, self.pad_token_id = 0, 1, 2
    self.unk_token_id, self.mask_token_id = 3, 4
    self.all_special_ids = [0, 1, 2, 3, 4]

  def get_vocab(self):
    return {piece: i for i, piece in enumerate(self.pieces) if piece != GAP}

  def ids(self, pieces):
    return np.array([self.pieces.index(piece) for piece in pieces], np.int32)


PIECES = [
  *("kind", "calm", "harm", "##ful", "##ly", "a", ",", "!"),
  *("今", "ส", "##วั", "##่"),
]
# Some vocabularies of WordPiece have the sign that marks spaces in SentencePiece.
BERT = Tokenizer(
  tokenizers.models.WordPiece(unk_token=UNK), [*PIECES, LONG, GAP, "▁", "12"]
)
SPM = Tokenizer(
  tokenizers.models.Unigram(),
  [
    *("▁", "▁kind", "kind", "▁Kind", "ly", "▁harm", "▁Harm"),
    *(",", "▁(", "<0xE2>", "今", "▁a", "##"),
  ],
)
TABLE = make_table(BERT)


@pytest.mark.parametrize(
  ("tokenizer", "pieces", "expected"),
  [
    (
      BERT,
      "[CLS] kind ##ful ##ly , harm ##ful 12 [SEP]",
      ["kind##ful##ly", "harm##ful", "12"],
    ),
    (BERT, "[CLS] 今 今 ส ##่ ##วั [SEP]", ["今", "今", "ส##่", "##วั"]),
    (BERT, "[CLS] [UNK] [UNK] ! [MASK] ##ful a [SEP]", [UNK, UNK, "##ful", "a"]),
    (BERT, f"[CLS] {LONG} [SEP]", [LONG]),
    (
      SPM,
      "[CLS] ▁kind ly , ▁( kind ly ▁Harm <0xE2> ▁ 今 今 [SEP]",
      ["▁kindly", "kindly", "▁Harm", "今", "今"],
    ),
  ],
)
def test_words_are_runs_of_pieces_with_letters(tokenizer, pieces, expected):
  ids = tokenizer.ids(pieces.split())
  words = find_words(ids, make_table(tokenizer))
  spans = zip(words.start, words.length, strict=True)
  names = np.array(tokenizer.pieces, object)
  assert ["".join(names[ids[a : a + n]]) for a, n in spans] == expected
  assert (np.bincount(words.of_token[words.of_token >= 0]) == words.length).all()


def random_texts(rng, count):
  """Texts of random pieces; about half of them are pairs."""
  texts = []
  for _ in range(count):
    parts = [rng.choice([*PIECES, LONG], rng.integers(0, 14)).tolist()]
    if rng.random() < 0.5:
      parts.append(rng.choice(PIECES, rng.integers(0, 9)).tolist())
    pieces = [CLS, *(piece for part in parts for piece in (*part, SEP))]
    texts.append((BERT.ids(pieces), len(parts[0]) + 2))
  return texts


SAMPLE = count_words(
  np.concatenate([ids for ids, _ in random_texts(np.random.default_rng(9), 50)]), TABLE
)


def expected_text(text, seed, rate, limit):
  """`token_noise.perturb` of one text, with lists instead of arrays."""
  ids, prompt = text
  parts, number = [ids[:prompt], ids[prompt:]], []
  result = []
  for part, segment in enumerate(parts):
    words = find_words(np.concatenate([[0], segment]).astype(np.int32), TABLE)
    spans = [(a - 1, a - 1 + n) for a, n in zip(words.start, words.length, strict=True)]
    content = [segment[a:b].tolist() for a, b in spans]
    n = len(content)
    uniform = lambda stream, i, part=part: token_noise._uniform(
      np.array([seed ^ np.uint64(part)]), stream, np.array([i])
    )[0]
    long = [c > word_noise.MAX_WORD_LENGTH for c in words.characters]
    deleted = []
    for i in range(n if n >= word_noise.MIN_WORDS else 0):
      change = uniform(0, i)
      if long[i]:
        continue
      if change < rate:
        deleted.append(i)
      elif change < 2 * rate:
        if i + 1 < n:
          content[i : i + 2] = content[i : i + 2][::-1]
      elif change < 3 * rate:
        k = np.searchsorted(SAMPLE.cumulative, uniform(1, i), "right")
        content[i] = SAMPLE.ids[SAMPLE.offset[k] : SAMPLE.offset[k + 1]].tolist()
    if n and len(deleted) == n:
      deleted.remove(int(uniform(2, 0) * n))
    new, position = [], 0
    for i, (a, b) in enumerate(spans):
      new += segment[position:a].tolist()
      if i not in deleted:
        first = BERT.pieces[content[i][0]]
        here = BERT.pieces[segment[a]].startswith("##")
        form = "##" * here + first.removeprefix("##")
        if form in BERT.pieces:
          content[i][0] = BERT.pieces.index(form)
        new += content[i]
      position = b
    result.append(new + segment[position:].tolist())
    number.append(len(result[-1]))
  while sum(map(len, result)) > limit:
    result[0 if len(result[0]) > 2 else 1].pop(1 if len(result[0]) > 2 else 0)
  return result[0] + result[1], len(result[0])


@pytest.mark.parametrize("rate", [0.1, 1 / 3])
def test_texts_change_as_a_loop_over_their_words_changes_them(rate):
  texts = random_texts(np.random.default_rng(0), 300)
  seeds = order.scramble(5, np.zeros(300, int), np.arange(300))
  before = [ids.copy() for ids, _ in texts]
  changed = token_noise.perturb(texts, seeds, TABLE, SAMPLE, 20, rate)
  for text, seed, (ids, prompt) in zip(texts, seeds, changed, strict=True):
    expected = expected_text(text, seed, rate, 20)
    assert (ids.tolist(), prompt) == expected
  assert all((a == ids).all() for a, (ids, _) in zip(before, texts, strict=True))
  pairs = zip(before, changed, strict=True)
  assert sum(a.tolist() == b.tolist() for a, (b, _) in pairs) < 200
  # A text doesn't depend on the others of its batch.
  for i in (0, 7, 299):
    one = (texts[i : i + 1], seeds[i : i + 1])
    ((alone, _),) = token_noise.perturb(*one, TABLE, SAMPLE, 20, rate)
    assert alone.tolist() == changed[i][0].tolist()


def test_replacements_are_as_frequent_as_in_the_sample():
  ids = BERT.ids([CLS, *["kind"] * 30, *["calm"] * 10, LONG, UNK, SEP])
  sample = count_words(ids, TABLE)
  assert sample.ids.tolist() == sorted(BERT.ids(["kind", "calm"]))
  text = (BERT.ids([CLS, *["harm"] * 400, SEP]), 402)
  seeds = np.arange(20, dtype=np.uint64)
  changed = token_noise.perturb([text] * 20, seeds, TABLE, sample, 512)
  new = np.concatenate([ids for ids, _ in changed])
  kind, calm = (int((new == BERT.ids([w])[0]).sum()) for w in ("kind", "calm"))
  assert 0.09 < (kind + calm) / 8000 < 0.11
  assert 2 < kind / calm < 4
  assert 0.88 < (len(new) - 40) / 8000 < 0.92


def test_words_keep_the_form_that_their_place_needs():
  table = make_table(SPM)
  text = (SPM.ids(["[CLS]", "▁Kind", "▁(", "kind", "▁harm", "[SEP]"]), 6)
  sample = count_words(SPM.ids(["[CLS]", "▁harm", "[SEP]"]), table)
  seen = set()
  for seed in range(200):
    ((ids, _),) = token_noise.perturb(
      [text], np.array([seed], np.uint64), table, sample, 99, 0.2
    )
    seen.add(" ".join(SPM.pieces[i] for i in ids[1:-1]))
  assert "▁Harm ▁( kind ▁harm" in seen  # a capital
  assert "▁kind ▁( ▁Kind ▁harm" in seen  # a piece without another form
  assert not any("( ▁kind" in text for text in seen)


def test_whole_words_are_masked():
  rng = np.random.default_rng(1)
  texts = random_texts(rng, 100)
  seeds = order.scramble(1, np.zeros(100, int), np.arange(100))
  for (ids, prompt), (new, new_prompt) in zip(
    texts, token_noise.mask(texts, seeds, TABLE, 0.3), strict=True
  ):
    assert len(new) == len(ids)
    assert new_prompt == prompt
    words, before = [], CLS
    for i, k in enumerate(ids):
      piece = BERT.pieces[k]
      if piece not in (CLS, SEP):
        if piece.startswith("##") and before not in (CLS, SEP):
          words[-1].append(i)
        else:
          words.append([i])
      before = piece
    masked = [set(new[word]) == {4} for word in words]
    assert sum(masked) == np.ceil(0.3 * len(words))
    kept = [i for i in range(len(ids)) if new[i] == ids[i]]
    assert {*range(len(ids))} - {*kept} <= {i for word in words for i in word}
    for word, is_masked in zip(words, masked, strict=True):
      assert is_masked or {*word} <= {*kept}


@pytest.mark.parametrize(
  ("size", "limit"), [(1, 1), (1, 300), (3, 70_000), (5, 70_000)]
)
def test_rows_are_counted_as_numpy_counts_them(size, limit):
  rng = np.random.default_rng(size)
  rows = rng.choice(np.unique(rng.integers(0, limit, 6)), (500, size)).astype(np.int32)
  distinct, count = token_words._count_rows(rows, limit)
  expected = np.unique(rows, axis=0, return_counts=True)
  np.testing.assert_array_equal(distinct, expected[0])
  np.testing.assert_array_equal(count, expected[1])
  assert distinct.dtype == np.int32
