"""The FLOPs that a step needs, against XLA's count of what the step computes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import methods
from ssljax.batch import Batch, Labelled, Rows, Texts, Unlabelled
from ssljax.method import Clock, Sizes
from ssljax.models import Encoder
from ssljax.models.classifier import Classifier
from ssljax.models.config import EncoderConfig
from ssljax.models.forward import ModelForward
from ssljax.testing import tiny
from ssljax.training import flops
from tests import tiny as cases

B, U, LENGTH = 2, 4, 48
SIZES = Sizes(2, 20, 40, B, U, 10, 1, (10, 10), 128)
BERT = EncoderConfig(
  vocab_size=100,
  hidden_size=128,
  num_hidden_layers=1,  # XLA counts the body of a loop once
  num_attention_heads=2,
  intermediate_size=512,
)
DEBERTA = dataclasses.replace(
  BERT,
  model_type="deberta-v2",
  relative_attention=True,
  pos_att_type=("c2p", "p2c"),
  position_buckets=8,
  position_biased_input=False,
  type_vocab_size=0,
  share_att_key=True,
)


def padded(texts: int) -> Texts:
  """Texts that fill their rows, so that a step computes only what it needs."""
  ids = np.ones((1, texts, LENGTH), np.int32)
  first = np.zeros((1, texts, 1), np.int32)
  return Texts(
    (Rows(ids, ids, 0 * ids, first),), np.arange(texts, dtype=np.int32)[None]
  )


def make(config: EncoderConfig, name: str):
  method = methods.make({"name": name})
  model = Classifier(
    Encoder(config, dropout=0.0), 2, "mlp", dict(method.needs.heads), 0.0
  )
  label, index = np.eye(2, dtype=np.float32), lambda n: np.arange(n, dtype=np.int32)
  batch = Batch(
    Labelled({"weak": padded(B)}, label, index(B)),
    Unlabelled({view: padded(U) for view in method.needs.views}, index(U)),
  )
  texts = (batch.labelled.views["weak"],)
  params = jax.eval_shape(model.init, jax.random.key(0), texts)["params"]
  return model, method, batch, params


def xla_flops(model, method, batch, params) -> float:
  def loss(params, batch):
    zero = jnp.zeros((), jnp.int32)
    clock = Clock(zero, jnp.zeros(()), zero, jax.random.key(0), 10)
    forward = ModelForward(model, params)
    terms, _, _ = method.loss(forward, batch, method.init(SIZES), clock)
    return sum(jnp.mean(term.weight * term.loss) for term in terms.values())

  lowered = jax.jit(jax.grad(loss)).lower(params, batch)
  return lowered.cost_analysis()["flops"]


@pytest.mark.parametrize(
  ("config", "name"),
  [
    (BERT, "fixmatch"),
    pytest.param(BERT, "vat", marks=pytest.mark.slow),
    pytest.param(DEBERTA, "fixmatch", marks=pytest.mark.slow),
  ],
)
def test_a_step_without_padding_needs_what_xla_counts(config, name):
  model, method, batch, params = make(config, name)
  count = flops.StepFlops(model=model, method=method, params=params, sizes=SIZES)
  needed = count(batch)
  if config.relative_attention:
    # by_distance multiplies each block of queries, here one of LENGTH, with a window of
    # 2 LENGTH position vectors.
    extra = 2 * 2 * config.hidden_size * LENGTH**2
    needed += extra * sum(
      passes * getattr(batch, part).views[view].where.size
      for (part, view), passes in count.passes.views.items()
    )
  # Norms, softmax, GELU and losses add 2%; VAT's derivatives add 2% more.
  share = xla_flops(model, method, batch, params) / needed
  assert 1.0 < share < (1.045 if name == "vat" else 1.03)


def test_layers_and_sizes_count():
  config = dataclasses.replace(DEBERTA, num_hidden_layers=3)
  params = {
    "encoder": {"kernel": np.zeros((9, 9))},
    "head": {"kernel": np.zeros((5, 2))},
  }
  cost = flops.forward_cost(config, params)
  assert cost.token == 2 * 3 * (4 * 128**2 + 2 * 128 * 512)
  assert cost.pair == 2 * 3 * 128 * 4
  assert cost.call == 2 * 3 * 2 * 16 * 128**2
  assert cost.text == 2 * 10
  networks = flops.forward_cost(config, params | {"networks_0": params})
  assert networks == tuple(2 * value for value in cost)
  wide = dataclasses.replace(BERT, embedding_size=64)
  assert flops.forward_cost(wide, {}).token == flops.forward_cost(BERT, {}).token + (
    2 * 64 * 128
  )


def test_tokens_and_pairs_are_those_of_the_texts():
  segment = np.array([[[1, 1, 1, 2, 2, 0], [1, 0, 0, 0, 0, 0]]], np.int32)
  rows = Rows(segment, segment, segment, np.zeros((1, 2, 3), np.int32))
  texts = Texts((rows, rows), np.array([[0, 1, 3, 6]], np.int32))
  assert flops.counts(texts) == (4, 3 + 2 + 1 + 3, 9 + 4 + 1 + 9)


@functools.cache
def passes(case: str, micro: int = 1) -> dict:
  """The passes of a method, by the name of the view."""
  method = cases.method(case)
  model = Classifier(Encoder(tiny.CONFIG), 2, "mlp", dict(method.needs.heads))
  count = flops.StepFlops(
    model=model, method=method, params={}, sizes=SIZES, micro=micro
  )
  found = count.passes
  labelled = found.views.get(("labelled", "weak"), 0)
  return {"labelled": labelled, "calls": found.calls} | {
    view: n for (part, view), n in found.views.items() if part == "unlabelled"
  }


def test_passes_with_gradient_count_three_times():
  assert passes("fixmatch") == {"labelled": 3, "weak": 1, "strong": 3, "calls": 4}
  # With micro-batches, targets are computed first, also those of labelled texts.
  expected = {"labelled": 4, "weak": 1, "strong": 3, "calls": 5}
  assert passes("fixmatch", micro=2) == expected
  assert passes("mean_teacher")["weak"] == 1
  assert passes("mixmatch:hidden")["strong"] == 4  # guess, then mix


def test_what_is_unknown_is_not_logged():
  model, method, batch, params = make(BERT, "fixmatch")
  options = {"model": model, "params": params, "sizes": SIZES}
  count = flops.StepFlops(method=method, **options)
  assert count.logged(batch) == {}  # CPUs have no known peak
  count.peak = 1e12
  assert count.logged(batch) == {"flops": count(batch)}

  def loss(forward, batch, state, clock):
    other = jax.tree.map(jnp.copy, batch.labelled.views["weak"])
    return {"loss": forward(other, key=clock.key)}, state, None

  count = flops.StepFlops(method=method._replace(loss=loss), **options)
  count.peak = 1e12
  assert count.logged(batch) == {}
  with pytest.raises(ValueError, match="aren't a view"):
    count(batch)


@pytest.mark.parametrize(
  ("kinds", "expected"),
  [
    (["NVIDIA H100 80GB HBM3"] * 8, 8 * 989e12),
    (["NVIDIA H100 PCIe"], 756e12),
    (["NVIDIA A100-SXM4-80GB"], 312e12),
    (["TPU v5 lite"], 197e12),
    (["TPU v5p"], 459e12),
    (["TPU v4"], 275e12),
    (["NVIDIA A100-SXM4-80GB", "new"], None),
    (["Tesla V100-SXM2-16GB"], None),
    (["cpu"], None),
  ],
)
def test_peaks_are_found_by_the_kind_of_device(kinds, expected):
  devices = [type("Device", (), {"device_kind": kind}) for kind in kinds]
  assert flops.peak(devices) == expected
