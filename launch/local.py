"""Runs one training as several processes on this machine.

  python launch/local.py --processes 2 --devices 2 -- \\
    --config=configs/fixmatch.py --workdir=DIR

Everything after `--` goes to `python -m ssljax.main` in each process. With `--devices`
each process has that many virtual CPU devices, to try out what a cluster will do;
without it, process i has GPU i.

Rank 0 prints as ever, the lines of the others come with their rank in front. The exit
code is that of the first process that fails, and the others are then ended. SIGTERM is
passed on: all processes save the same step and exit 143. Ctrl-C does the same with 130,
a second one ends all at once.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

SAVED, INTERRUPTED = 143, 130
SAVING = 120  # seconds for the others to save once one has saved
ENDING = 10  # seconds for the others to end once one has failed


def main() -> int:
  parser = argparse.ArgumentParser(
    usage="%(prog)s --processes N [--devices N] -- ARGUMENTS of ssljax.main"
  )
  parser.add_argument("--processes", type=int, required=True)
  parser.add_argument("--devices", type=int, help="virtual CPU devices of each process")
  parser.add_argument("arguments", nargs="*")
  options = parser.parse_args()
  if options.processes < 1 or (options.devices or 1) < 1:
    parser.error("--processes and --devices are at least 1")
  if not any(a.lstrip("-").startswith("workdir") for a in options.arguments):
    parser.error("give --workdir: left out, each process would name its own")

  command = [sys.executable, "-m", "ssljax.main", *options.arguments]
  command.append("--config.distributed=true")
  address = f"127.0.0.1:{free_port()}"
  heard: list[int] = []
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: heard.append(number))
  processes = []
  for rank in range(options.processes):
    process = subprocess.Popen(
      command,
      env=environment(rank, options.processes, options.devices, address),
      # Not in the terminal's group: Ctrl-C is for us to pass on, once.
      start_new_session=True,
      stdout=None if rank == 0 else subprocess.PIPE,
      stderr=None if rank == 0 else subprocess.STDOUT,
    )
    processes.append(process)
  readers = [
    threading.Thread(target=relay, args=(rank, process.stdout))
    for rank, process in enumerate(processes)
    if process.stdout
  ]
  for reader in readers:
    reader.start()
  code = wait(processes, heard)
  for reader in readers:
    reader.join(ENDING)
  return INTERRUPTED if code == SAVED and signal.SIGINT in heard else code


def free_port() -> int:
  """A port that nobody has at this moment."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def environment(rank: int, count: int, devices: int | None, address: str) -> dict:
  """What tells a process which of how many it is, and which devices are its own."""
  result = dict(os.environ)
  result["JAX_COORDINATOR_ADDRESS"] = address
  result["JAX_NUM_PROCESSES"] = str(count)
  result["JAX_PROCESS_ID"] = str(rank)
  if devices is None:
    result["JAX_LOCAL_DEVICE_IDS"] = str(rank)
  else:
    flag = "--xla_force_host_platform_device_count"
    others = re.sub(rf"{flag}=\S*", "", result.get("XLA_FLAGS", ""))
    result["XLA_FLAGS"] = f"{others} {flag}={devices}".strip()
    result["JAX_PLATFORMS"] = "cpu"
  return result


def relay(rank: int, stream) -> None:
  """Passes on each line of a process with its rank in front."""
  for line in stream:
    sys.stdout.buffer.write(f"[{rank}] ".encode() + line)
    sys.stdout.buffer.flush()


def wait(processes: list[subprocess.Popen], heard: list[int]) -> int:
  """Waits for all, passing signals on; the first code that is not 0, else 0."""
  first, passed, deadline = 0, 0, float("inf")
  while any(process.poll() is None for process in processes):
    for process in processes:
      if process.poll() and not first:
        first = process.returncode
        saved = first in (SAVED, -signal.SIGTERM)
        deadline = time.monotonic() + (SAVING if saved else ENDING)
        if not saved:  # nobody can go on without it, nor save
          send(processes, signal.SIGTERM)
    if len(heard) > passed:
      # Only SIGTERM is heeded by all processes after the same step, so Ctrl-C is
      # passed on as that, and once more as SIGKILL.
      again = passed > 0 and heard[-1] == signal.SIGINT
      send(processes, signal.SIGKILL if again else signal.SIGTERM)
      passed = len(heard)
    if time.monotonic() > deadline:
      send(processes, signal.SIGKILL)
    time.sleep(0.05)
  codes = [first, *(process.returncode for process in processes)]
  code = next((code for code in codes if code), 0)
  return 128 - code if code < 0 else code  # as a shell counts: 143 for SIGTERM


def send(processes: list[subprocess.Popen], number: int) -> None:
  for process in processes:
    if process.poll() is None:
      process.send_signal(number)


if __name__ == "__main__":
  sys.exit(main())
