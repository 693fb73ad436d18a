"""Trains tiny SentencePiece models."""

import sentencepiece


def train(folder, **settings):
  """Writes spm.model into a folder."""
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["how to build a home and bake bread in an oven"] * 50),
    model_prefix=str(folder / "spm"),
    hard_vocab_limit=False,
    minloglevel=2,
    num_threads=1,
    **settings,
  )
