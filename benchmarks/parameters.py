"""Counts the memory of a train step per device, by the compiler: fsdp, remat, batch.

  python -m benchmarks.parameters --json=parameters.json
  python -m benchmarks.parameters --encoder=deberta-v3-base --batches=16 --devices=8

The step is FixMatch's, with the encoder's sizes and no weights. It's compiled, and
never run. With `--devices=8`, it's compiled for 8 virtual CPU devices, with `fsdp` 1
(each device has all parameters) and 8 (each has an eighth). Each line is a combination
of `--batches` (labelled texts), `--accumulations`, and remat off and on. The columns
are MiB per device: arguments (parameters, optimizer state, batch), temporary buffers,
and the peak, which also counts results that don't reuse an argument's memory. A batch
that can't be divided among the devices and micro-batches is left out.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

from ssljax.runtime.json_files import write_json

MIB = 2**20


def count(options: argparse.Namespace) -> None:
  """Prints a JSON line for each combination, on the devices of this process."""
  import jax

  from benchmarks import synthetic
  from benchmarks.architectures import ENCODERS

  numbers = lambda text: [int(number) for number in text.split(",")]
  combinations = itertools.product(
    sorted({1, jax.device_count()}),
    (False, True) if options.remat == "both" else (options.remat == "true",),
    numbers(options.accumulations),
    numbers(options.batches),
  )
  for fsdp, remat, accumulation, batch in combinations:
    if batch % (accumulation * jax.device_count()):
      continue
    settings = {"fsdp": fsdp, "remat": remat, "accumulation": accumulation}
    settings |= {"batch": batch, "dtype": options.dtype}
    job = synthetic.make(ENCODERS[options.encoder], **settings)
    # The generated code may be slow; buffers are assigned before it is generated.
    quickly = {"xla_backend_optimization_level": 0}
    memory = (
      job.step.lower(job.state, *job.shapes(0)).compile(quickly).memory_analysis()
    )
    arguments, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    line = {
      "encoder": options.encoder,
      "devices": jax.device_count(),
      **settings,
      "arguments_mib": arguments / MIB,
      "temporary_mib": temporary / MIB,
      "peak_mib": (arguments + temporary + results) / MIB,
    }
    print(json.dumps(line), flush=True)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--encoder", default="deberta-v3-large")
  parser.add_argument("--devices", default="1,8", help="numbers of devices")
  parser.add_argument("--batches", default="8,16,32")
  parser.add_argument("--accumulations", default="1,2,4,8")
  parser.add_argument("--remat", choices=("both", "true", "false"), default="both")
  parser.add_argument("--dtype", default="float32")
  parser.add_argument("--json", type=Path)
  parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.child:
    count(options)
    return
  print("devices  fsdp  remat  accumulation  batch  arguments  temporary    peak, MiB")
  lines = []
  for devices in options.devices.split(","):
    flag = f"--xla_force_host_platform_device_count={devices}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    command = [sys.executable, "-m", "benchmarks.parameters", "--child", *sys.argv[1:]]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    child = subprocess.Popen(
      command, env=environment, stdout=subprocess.PIPE, text=True
    )
    for text in child.stdout:
      line = json.loads(text)
      lines.append(line)
      print(
        f"{line['devices']:7} {line['fsdp']:5}  {line['remat']!s:5}"
        f" {line['accumulation']:13} {line['batch']:6} {line['arguments_mib']:10.0f}"
        f" {line['temporary_mib']:10.0f} {line['peak_mib']:12.0f}",
        flush=True,
      )
    if child.wait():
      sys.exit(child.returncode)
  if options.json:
    write_json(options.json, lines)


if __name__ == "__main__":
  main()
