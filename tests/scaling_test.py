"""The formulas of docs/scaling.md against counters; a miniature of the benchmark."""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import accelerator, collectives, scaling, synthetic
from benchmarks.architectures import ENCODERS
from ssljax import wrappers
from ssljax.method import Sizes
from ssljax.models import Encoder
from tests import tiny

BERT = dataclasses.replace(
  collectives.SMALL, hidden_size=96, embedding_size=96, num_attention_heads=3
)
DEBERTA = dataclasses.replace(
  BERT,
  model_type="deberta-v2",
  relative_attention=True,
  pos_att_type=("c2p", "p2c"),
  position_buckets=8,
  position_biased_input=False,
  type_vocab_size=0,
  norm_rel_ebd="layer_norm",
)
SHARED = dataclasses.replace(DEBERTA, share_att_key=True, embedding_size=64)


@functools.cache
def job(config, **options) -> synthetic.Job:
  return synthetic.make(config, max_length=32, lengths=np.array([20]), **options)


def size(tree) -> int:
  return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(tree))


@pytest.mark.parametrize("config", [BERT, DEBERTA, SHARED])
def test_parameters_and_state(config):
  state = job(config).state
  assert size(state.params) == 4 * scaling.parameters(config)
  # The step, the key, and the optimiser's counts.
  assert 0 < size(state._replace(key=())) - scaling.state_bytes(config) < 64


def test_fsdp_divides_the_state():
  config = ENCODERS["deberta-v3-base"]
  state = job(config, fsdp=8).state._replace(key=())
  shards = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.sharding.shard_shape(a.shape), a.dtype), state
  )
  # Small parameters are on all devices.
  assert 1.0 < size(shards) / (scaling.state_bytes(config) / 8) < 1.02


def test_flops_of_a_step(monkeypatch):
  monkeypatch.setattr(scaling, "mean_lengths", lambda: (20.0, 400.0))
  counted = job(SHARED).flops(job(SHARED).loader.batch(3)[0])
  assert counted == scaling.step_flops(SHARED, 16, 48)


def test_lengths_are_those_that_are_drawn():
  drawn = synthetic.draw_lengths(200_000, 512)
  expected = pytest.approx((drawn.mean(), (drawn**2).mean()), rel=0.01)
  assert scaling.mean_lengths() == expected


@pytest.mark.parametrize("config", [BERT, SHARED])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("remat", [False, True])
def test_what_the_layers_keep_for_the_backward_pass(config, dtype, remat):
  rows, length, layers = 7, 56, 5
  config = dataclasses.replace(config, num_hidden_layers=layers)
  encoder = Encoder(config, dtype=jnp.dtype(dtype), remat=remat, dropout=0.1)
  ids = jax.ShapeDtypeStruct((rows, length), jnp.int32)
  key = jax.random.key(0, impl="rbg")
  params = jax.eval_shape(encoder.init, key, ids, ids)["params"]

  def backward(params, ids, key):
    def run(params):
      rngs = {"dropout": key}
      return encoder.apply({"params": params}, ids, ids, deterministic=False, rngs=rngs)

    return jax.vjp(run, params)[1]

  arrays = jax.tree.leaves(jax.eval_shape(backward, params, ids, key))
  kept = size([a for a in arrays if a.shape[:2] == (layers, rows)])
  expected = scaling.kept_bytes(config, rows * length, rows * length**2, dtype, remat)
  # Statistics of norms and softmax, or, with remat, the segments.
  assert 1.0 < kept / expected < (1.025 if remat else 1.005)


@pytest.mark.slow
def test_data_parallel_devices_sum_the_gradient():
  made = synthetic.make(
    BERT, batch=8, max_length=16, dtype="float32", method="supervised"
  )
  text = made.step.lower(made.state, *made.put(0)).compile().as_text()
  found = collectives.collectives(text)
  total = sum(c.bytes * c.passes for c in found if c.kind == "all-reduce")
  assert 0 <= total - scaling.gradient_bytes(BERT) < 1024
  assert {c.kind for c in found} == {"all-reduce"}


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
def test_fsdp_sends_parameters_and_not_hidden_states(remat):
  config, found = dataclasses.replace(collectives.SMALL, num_hidden_layers=3), []
  for batch in (8, 16):
    made = synthetic.make(
      config,
      batch=batch,
      ratio=1,
      max_length=32,
      dtype="float32",
      fsdp=8,
      method="supervised",
      remat=remat,
      unroll=1,
    )
    text = made.step.lower(made.state, *made.put(0)).compile().as_text()
    gathers = [c for c in collectives.collectives(text) if c.kind == "all-gather"]
    found.append(sorted(c for c in gathers if c.passes > 1))
  assert found[0] == found[1]
  # The matrices of a layer, once in the forward and once in the backward pass.
  d, inner = config.hidden_size, config.intermediate_size
  layer = 4 * (4 * d * d + 2 * d * inner)  # bytes
  assert {c.passes for c in found[0]} == {config.num_hidden_layers}
  assert sum(c.bytes for c in found[0]) == 2 * layer


def test_collectives_in_loops_count_once_per_pass():
  text = """
%body (p: f32[2]) -> f32[2] {
  %r = (f32[4,2]{1,0}, bf16[3]{0}) all-reduce(%a, %b), to_apply=%add
}
ENTRY %main (p: f32[2]) -> f32[2] {
  %w = f32[2] while(%t), body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %g = f32[8]{0} all-gather-start(%p), dimensions={0}
}
"""
  assert collectives.collectives(text) == [
    collectives.Collective("all-reduce", 38, 5),
    collectives.Collective("all-gather", 32, 1),
  ]


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_what_a_ring_sends(devices):
  """Sums arrays over a ring, each device sending one part at a time."""
  random, sent = np.random.default_rng(0), 0
  values = random.integers(0, 9, (devices, devices, 3))  # device, part, entry
  expected = values.sum(0)
  for n in range(2 * (devices - 1)):
    parts = [values[d, (d - n) % devices].copy() for d in range(devices)]
    for d, part in enumerate(parts):
      target = values[(d + 1) % devices]
      target[(d - n) % devices] = part + (
        target[(d - n) % devices] if n < devices - 1 else 0
      )
    sent += parts[0].nbytes
  np.testing.assert_array_equal(values, np.broadcast_to(expected, values.shape))
  assert scaling.sent_bytes(expected.nbytes, devices) == sent


@pytest.mark.parametrize("classes", [2, 5])
def test_tables_of_all_methods(classes):
  for case in tiny.cases():
    name, _, wrapper = case.partition("/")
    method = tiny.method(case)
    if method.needs.virtual_classes:
      continue
    method = wrappers.wrap(method, {"name": wrapper})

    def state(rows, method=method):
      sizes = Sizes(classes, 200, rows, 16, 48, 1300, 13, (40,) * classes, 64)
      return size(jax.eval_shape(lambda: method.init(sizes)))

    known = case if wrapper else name.partition(":")[0]
    growth = (state(2_000_000) - state(1_000_000)) / 1_000_000
    assert growth == scaling.table_bytes(known, 1, classes), case


def test_the_document_has_the_tables_of_the_command(capsys):
  scaling.main()
  text = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text()
  tables = re.findall(r"(?:^\|.*\n)+", capsys.readouterr().out, re.MULTILINE)
  assert len(tables) == 6
  for table in tables:
    assert table in text


@pytest.mark.slow
def test_a_miniature_is_measured():
  config = dataclasses.replace(BERT, num_hidden_layers=1)
  made = synthetic.make(config, batch=8, max_length=32, method="supervised")
  measured = accelerator.measure(made, 2, peak=1e9)
  batches = [made.loader.batch(t)[0] for t in range(2)]
  flops = np.mean([made.flops(batch) for batch in batches])
  seconds = measured["step_seconds"]
  assert measured["device"] == "8 x cpu"
  assert measured["parameters"] == scaling.parameters(config)
  assert measured["flops_per_step"] == flops
  assert measured["mfu"] == pytest.approx(flops / seconds / 8e9)
  assert 0 < measured["real_token_share"] <= 1
  assert measured["compiler_memory_bytes"] > scaling.state_bytes(config)
  assert "| device | 8 x cpu |" in accelerator.table(measured)
