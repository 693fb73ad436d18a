"""Evaluates the formulas of docs/scaling.md and prints its tables.

  python -m benchmarks.scaling

Nothing is measured here. tests/scaling_test.py checks each formula against a counter:
XLA's FLOPs, the bytes of a real TrainState, the arrays that a backward pass keeps, the
collective operations of a compiled step, and the tables that methods make.
"""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from benchmarks import synthetic
from benchmarks.architectures import ENCODERS
from ssljax.augment.engines.llm import prompt
from ssljax.models.config import EncoderConfig
from ssljax.training.flops import Cost

# Assumptions, stated in docs/scaling.md.
PEAK = 989e12  # FLOP/s, dense bfloat16 products of an H100 (SXM)
MFU = 0.4  # of the training step
LINK = 450e9  # B/s that a GPU sends inside a machine of 8 (NVLink 4)
NETWORK = 50e9  # B/s that a GPU sends between machines (400 Gb/s each)
MACHINE = 8  # GPUs of a machine
BATCH, RATIO = 16, 3  # labelled texts, and unlabelled ones for each of them
LLM_PARAMETERS = 8e9
LLM_UTILISATION = 0.2  # share of the peak, over prompts and answers
CHARACTERS_PER_TOKEN = 4.0
FULL = 0.92  # share of real tokens in the rows

# Bytes of the tables that a method keeps on the devices for each unlabelled text:
# (a, b) for a + b C bytes, with C classes. All others keep none.
TABLES: Mapping[str, tuple[int, int]] = {
  "flexmatch": (4, 0),
  "marginmatch": (8, 4),
  "multimatch": (16, 12),
  "sequencematch": (4, 0),
  "fixmatch/darp": (0, 4),
  "fixmatch/saw": (4, 0),
}


def parameters(config: EncoderConfig, classes: int = 2) -> int:
  """Number of parameters of a classifier with the head "mlp"."""
  width, wide, embedded = (
    config.hidden_size,
    config.intermediate_size,
    config.embedding_size,
  )
  count = embedded * (config.vocab_size + config.type_vocab_size) + 2 * width
  if config.position_biased_input:
    count += embedded * config.max_position_embeddings
  if embedded != width:
    count += embedded * width
  layer = 4 * (width**2 + width) + 2 * width * wide + wide + width + 4 * width
  if config.relative_attention:
    count += 2 * config.relative_span * width
    count += 2 * width if config.norm_rel_ebd == "layer_norm" else 0
    terms = 0 if config.share_att_key else len(set(config.pos_att_type))
    layer += terms * (width**2 + width)
  count += config.num_hidden_layers * layer
  return count + width**2 + width + classes * (width + 1)


def state_bytes(config: EncoderConfig, ema: bool = False) -> int:
  """Parameters and Adam's two averages, in float32; with an EMA, one more copy."""
  return 4 * parameters(config) * (4 if ema else 3)


def kept_bytes(
  config: EncoderConfig, tokens: float, pairs: float, dtype: str, remat: bool = False
) -> float:
  """Bytes that the layers keep for the backward pass.

  Args:
    tokens: in the rows of the passes with gradient, with padding.
    pairs: of tokens in the same row, since attention is computed for all of them.
  """
  width, wide = config.hidden_size, config.intermediate_size
  size = 4 if dtype == "float32" else 2
  if remat:
    return config.num_hidden_layers * size * width * tokens
  token = (3 * 4 + size) * wide + (6 * 4 + 6 * size + 2) * width
  if config.relative_attention:
    token += len(set(config.pos_att_type)) * size * width
  pair = (4 + size + 1) * config.num_attention_heads
  return config.num_hidden_layers * (token * tokens + pair * pairs)


def gradient_bytes(config: EncoderConfig) -> int:
  """Bytes of the gradient, which data-parallel devices sum in each step."""
  return 4 * parameters(config)


def sent_bytes(size: float, devices: int) -> float:
  """Bytes that each device sends when `size` bytes are summed in a ring."""
  return 2 * size * (devices - 1) / devices


def seconds_to_send(size: float, devices: int) -> float:
  """Seconds in which a ring sums `size` bytes.

  Between machines, the GPUs of a machine share the traffic of one.
  """
  sent = sent_bytes(size, devices)
  between = sent / MACHINE / NETWORK if devices > MACHINE else 0.0
  return max(sent / LINK, between)


def step_flops(config: EncoderConfig, labelled: float, unlabelled: float) -> float:
  """FLOPs of a FixMatch step, for texts with the lengths of `benchmarks.synthetic`."""
  lengths = mean_lengths()
  cost = _cost(config)
  text = cost.token * lengths[0] + cost.pair * lengths[1] + cost.text
  return (3 * labelled + 4 * unlabelled) * text + 4 * cost.call


def mean_lengths() -> tuple[float, float]:
  """Mean number of tokens of a text, and of its pairs of tokens."""
  lengths = np.interp(
    (np.arange(10_000) + 0.5) / 10_000, synthetic.QUANTILES, synthetic.PROMPT_LENGTHS
  )
  return float(lengths.mean()), float((lengths**2).mean())


def table_bytes(method: str, texts: float, classes: int = 2) -> float:
  """Bytes of a method's tables for `texts` unlabelled texts."""
  fixed, by_class = TABLES.get(method, (0, 0))
  return texts * (fixed + by_class * classes)


def paraphrase_tokens(texts: float) -> tuple[float, float]:
  """Tokens that an LLM reads and writes for one paraphrase of each text."""
  path = prompt.FOLDER / "paraphrase.md"
  instruction = len(path.read_text(encoding="utf-8")) / CHARACTERS_PER_TOKEN
  length, _ = mean_lengths()
  return texts * (instruction + length), texts * length


def _cost(config: EncoderConfig) -> Cost:
  from ssljax.training.flops import forward_cost

  width = config.hidden_size
  kernel = lambda *shape: {"kernel": jax.ShapeDtypeStruct(shape, np.float32)}
  heads = {"dense": kernel(width, width), "classifier": kernel(width, 2)}
  return forward_cost(config, heads)


def main() -> None:
  for name in ("deberta-v3-base", "deberta-v3-large"):
    config = ENCODERS[name]
    print(f"\n{name}: {parameters(config) / 1e6:.1f} million parameters\n")
    print(*step_table(config), "", *memory_table(config), sep="\n")
  base = ENCODERS["deberta-v3-base"]
  print("\ndeberta-v3-base, one pass over the pool\n")
  print(*pool_table(base), "", *tables_table(), sep="\n")


def step_table(config: EncoderConfig) -> list[str]:
  """What a step costs on 1, 8 and 256 devices."""
  rows = []
  for devices, labelled in ((1, 16), (8, 16), (8, 128), (256, 256), (256, 4096)):
    flops = step_flops(config, labelled, RATIO * labelled) / devices
    seconds = flops / PEAK / MFU
    sent = sent_bytes(gradient_bytes(config), devices)
    wire = seconds_to_send(gradient_bytes(config), devices)
    rows.append(
      [
        f"{devices}",
        f"{labelled} + {RATIO * labelled}",
        f"{flops / 1e12:.2f}",
        f"{1e3 * seconds:.1f}",
        f"{sent / 1e9:.2f}",
        f"{1e3 * wire:.1f}",
        f"{seconds / (seconds + wire):.0%}",
      ]
    )
  titles = ["devices", "batch", "TFLOP per device", "ms at 40%", "GB sent per device"]
  return markdown([*titles, "ms to send", "share of computing"], rows)


def memory_table(config: EncoderConfig) -> list[str]:
  """Bytes on a device, by how the state and the activations are kept."""
  length, _ = mean_lengths()
  tokens = BATCH * (1 + RATIO) * length / FULL  # labelled and strong
  pairs = tokens * 512  # rows of 512 tokens
  rows = []
  for fsdp in (1, 8):
    for remat in (False, True):
      kept = kept_bytes(config, tokens, pairs, "bfloat16", remat)
      state = state_bytes(config) / fsdp
      rows.append(
        [
          f"{fsdp}",
          "yes" if remat else "no",
          f"{state / 2**30:.2f}",
          f"{gradient_bytes(config) / fsdp / 2**30:.2f}",
          f"{kept / 2**30:.2f}",
        ]
      )
  return markdown(["fsdp", "remat", "state, GiB", "gradient, GiB", "kept, GiB"], rows)


def pool_table(config: EncoderConfig) -> list[str]:
  """The cost of one pass over the pool, and of one paraphrase of each text."""
  rows = []
  for texts in (1e6, 1e8, 1e10):
    steps = texts / (BATCH * RATIO)
    flops = steps * step_flops(config, BATCH, BATCH * RATIO)
    hours = flops / PEAK / MFU / 3600
    read, written = paraphrase_tokens(texts)
    llm = llm_hours(read + written)
    cached = llm_hours(2 * written)  # the text and its paraphrase
    rows.append(
      [
        f"{texts:,.0f}",
        f"{steps:.3g}",
        f"{flops:.2g}",
        *(amount(hours), amount(hours / 8), amount(hours / 256)),
        f"{texts * store_bytes(2 * mean_lengths()[0], 4) / 1e9:.3g}",
        f"{read / 1e9:.3g} + {written / 1e9:.3g}",
        amount(llm),
        amount(cached),
        f"{llm / hours:.0f}",
        f"{cached / hours:.0f}",
      ]
    )
  titles = ["texts", "steps", "FLOPs", "on 1 GPU", "8 GPUs", "256 GPUs"]
  titles += ["token files, GB", "LLM reads + writes, 10^9 tokens", "LLM on 1 GPU"]
  titles += ["with a cached instruction", "LLM / training", "cached / training"]
  return markdown(titles, rows)


def store_bytes(tokens: float, size: int) -> float:
  """Bytes of a row of a token store (ssljax/data/pool): a text and one stored view.

  Args:
    tokens: of both.
    size: bytes of a token: 2 if the vocabulary has at most 65,536 pieces, otherwise 4.
  """
  # In shards: place, label and id of the row; digests and lengths of text and view.
  in_shards = 36 + 2 * 46 + 3
  # In the index: label, length, counts by kind, keys of the id and of both texts.
  in_index = 18 + 3 * 12
  return tokens * size + in_shards + in_index


def llm_hours(tokens: float) -> float:
  """GPU hours in which the LLM reads or writes these tokens."""
  return 2 * LLM_PARAMETERS * tokens / PEAK / LLM_UTILISATION / 3600


def tables_table() -> list[str]:
  """Bytes of the methods' tables, with two classes."""
  rows = [
    [f"`{name}`", f"{table_bytes(name, 1):.0f}"]
    + [f"{table_bytes(name, n) / 1e9:.3g}" for n in (1e6, 1e8, 1e10)]
    for name in TABLES
  ]
  return markdown(
    ["method", "bytes per text", "10^6 texts, GB", "10^8, GB", "10^10, GB"], rows
  )


def amount(hours: float) -> str:
  """A duration in minutes, hours or days."""
  if hours < 2:
    return f"{60 * hours:.3g} min"
  return f"{hours:.3g} h" if hours < 72 else f"{hours / 24:,.0f} days"


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  line = lambda cells: f"| {' | '.join(cells)} |"
  return [line(titles), line(["---"] * len(titles)), *map(line, rows)]


if __name__ == "__main__":
  main()
