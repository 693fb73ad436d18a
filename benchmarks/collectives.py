"""Counts the bytes that a step moves between devices, in the compiled program.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_PLATFORMS=cpu \\
    python -m benchmarks.collectives --fsdp=8

prints the collective operations of the step of a small BERT on the devices of this
machine. Operations in a loop, such as that over the layers, count once per pass.
"""

import argparse
import math
import re
from typing import NamedTuple

from benchmarks import synthetic
from ssljax.models.config import EncoderConfig

SMALL = EncoderConfig(
  vocab_size=1024,
  hidden_size=256,
  num_hidden_layers=2,
  num_attention_heads=4,
  intermediate_size=1024,
  max_position_embeddings=64,
)
KINDS = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}


class Collective(NamedTuple):
  kind: str  # one of KINDS
  bytes: int  # of its result on a device
  passes: int  # how often a step runs it


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--fsdp", type=int, default=1)
  parser.add_argument("--method", default="supervised")
  options = parser.parse_args()
  job = synthetic.make(
    SMALL,
    batch=8,
    ratio=1,
    max_length=32,
    dtype="float32",
    fsdp=options.fsdp,
    method=options.method,
  )
  text = job.step.lower(job.state, *job.put(0)).compile().as_text()
  for kind, size, passes in collectives(text):
    print(f"{passes} x {kind}: {size:,} bytes")


def collectives(text: str) -> list[Collective]:
  """The collective operations of a compiled program, given as HLO text."""
  bodies: dict[str, list[str]] = {}
  name = entry = ""
  for line in text.splitlines():
    if header := re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line):
      name = header[2]
      entry = name if header[1] else entry
      bodies[name] = []
    elif name:
      bodies[name].append(line)

  found: list[Collective] = []

  def visit(name: str, passes: int) -> None:
    for line in bodies[name]:
      if match := re.search(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(", line):
        found.append(Collective(match[2], _bytes(match[1]), passes))
      count = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
      inner = re.findall(r"(?:body|calls|to_apply|\w+_computation)=%?([\w.-]+)", line)
      for called in inner:
        if called in bodies:
          visit(called, passes * (int(count[1]) if count else 1))

  visit(entry, 1)
  return found


def _bytes(shapes: str) -> int:
  """Bytes of the arrays in an HLO type, such as `(f32[2,8]{1,0}, s32[])`."""
  return sum(
    BYTES.get(kind, 4) * math.prod(map(int, filter(None, sizes.split(","))))
    for kind, sizes in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shapes)
  )


if __name__ == "__main__":
  main()
