"""Views that are in the same passes share rows, which are then encoded once."""

import importlib

import jax
import numpy as np
import pytest

from ssljax.batch import Batch, Labelled, RowsOf, Texts, Unlabelled
from ssljax.method import Sizes
from ssljax.models import Encoder
from ssljax.models.classifier import Classifier
from ssljax.models.forward import ModelForward
from ssljax.testing import tiny
from ssljax.testing.checks import assert_close
from ssljax.training.shared_rows import find_groups
from tests import passes

SIZES = Sizes(2, 200, 1000, 4, 8, 300, 13, (100, 100), tiny.CONFIG.hidden_size)
LABELLED, WEAK, STRONG = (
  ("labelled", "weak"),
  ("unlabelled", "weak"),
  ("unlabelled", "strong"),
)
SECOND, STRONG_LABELLED = ("unlabelled", "strong_2"), ("labelled", "strong")


def groups_of(name: str, micro: int = 1, **keywords):
  method = importlib.import_module(f"ssljax.methods.{name}").make(**keywords)
  needs = method.needs
  classes = SIZES.classes + needs.virtual_classes
  model = Classifier(Encoder(tiny.CONFIG), classes, heads=dict(needs.heads))
  return set(find_groups(method, model, SIZES, micro))


@pytest.mark.parametrize(
  ("name", "micro", "groups"),
  [
    ("supervised", 1, [(LABELLED,)]),
    ("fixmatch", 1, [(LABELLED, STRONG), (WEAK,)]),
    # `assign` reads the labelled texts without the strong view.
    ("fixmatch", 2, [(LABELLED,), (STRONG,), (WEAK,)]),
    ("multimatch", 2, [(LABELLED, STRONG), (WEAK,)]),
    ("comatch", 1, [(LABELLED, STRONG, SECOND), (WEAK,)]),
    ("defixmatch", 1, [(LABELLED,), (STRONG_LABELLED, STRONG), (WEAK,)]),
    ("pseudo_label", 1, [(LABELLED, WEAK)]),
    # The weak view is in two passes, once with changed embeddings.
    ("vat", 1, [(LABELLED,), (WEAK,)]),
  ],
)
def test_views_of_the_same_passes(name, micro, groups):
  assert groups_of(name, micro) == set(groups)


def test_mixed_texts_share_no_rows():
  assert all(len(group) == 1 for group in groups_of("mixmatch", mix="hidden"))


def joined(texts: Texts):
  """A batch whose labelled and strong views are the halves of `texts`."""
  half = texts.where.shape[1] // 2
  index = np.arange(half)
  return Batch(
    Labelled({"weak": texts._replace(where=texts.where[:, :half])}, index, index),
    Unlabelled({"strong": Texts(RowsOf(*LABELLED), texts.where[:, half:])}, index),
  )


def flops(f, argument) -> float:
  return jax.jit(f).lower(argument).cost_analysis()["flops"]


def test_shared_rows_are_encoded_once():
  model, params, _ = passes.build_model()
  texts = passes.texts(0, 12)

  def run(batch):
    views = batch.with_shared_rows().labelled_and("strong")
    labelled, strong = ModelForward(model, params)(*views, key=passes.KEY)
    return labelled.logits, strong.logits

  def alone(texts):
    return ModelForward(model, params)(texts, key=passes.KEY).logits

  assert flops(run, joined(texts)) == pytest.approx(flops(alone, texts), rel=1e-3)
  logits = passes.jit(alone)(texts)
  assert_close(passes.jit(run)(joined(texts)), (logits[:6], logits[6:]), 1e-6)


def test_micro_batches_share_rows():
  model, params, _ = passes.build_model()
  batch = jax.tree.map(lambda a: np.stack([a, a]), joined(passes.texts(0, 12)))

  def run(batch):
    views = batch.with_shared_rows().labelled_and("strong")
    outputs = ModelForward(model, params, micro=True)(*views, key=passes.KEY)
    return [o.logits for o in outputs]

  def alone(texts):
    return ModelForward(model, params, micro=True)(texts, key=passes.KEY).logits

  view = jax.tree.map(lambda a: np.stack([a, a]), passes.texts(0, 12))
  assert flops(run, batch) == pytest.approx(flops(alone, view), rel=1e-3)
  once = joined(passes.texts(0, 12)).with_shared_rows().labelled_and("strong")
  expected = ModelForward(model, params)(*once, key=passes.KEY)
  for logits, single in zip(passes.jit(run)(batch), expected, strict=True):
    np.testing.assert_allclose(logits[:6], single.logits, atol=1e-5)
    np.testing.assert_allclose(logits[6:], single.logits, atol=1e-5)
