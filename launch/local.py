"""Starts one training run as several processes on this machine.

  python launch/local.py --processes 2 --devices 2 -- \\
    --config=configs/fixmatch.py --workdir=DIR

Everything after `--` is passed to `python -m ssljax.main` in each process. With
`--devices`, each process gets that many virtual CPU devices, so that you can try out a
multi-host run on a laptop. Without it, process i uses GPU i.

Output lines are prefixed with the rank, except those of rank 0. If a process fails, the
others are stopped and the launcher exits with its code. SIGTERM is forwarded: all
processes save the same step, and the exit code is 143. Ctrl-C does the same with exit
code 130. A second Ctrl-C kills all processes; so does the launcher five minutes after a
signal, in case one hangs. On Linux, the processes are also killed when the launcher is.
"""

import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

from ssljax.runtime import children

TERMINATED, INTERRUPTED = 143, 130  # exit codes
# Seconds until the processes are killed:
SIGNAL_TIMEOUT = 300  # after a signal: they finish a step or an evaluation, and save
SAVE_TIMEOUT = 120  # after one has saved
STOP_TIMEOUT = 10  # after one has failed


def main() -> int:
  parser = argparse.ArgumentParser(
    usage="%(prog)s --processes N [--devices N] -- ARGUMENTS_OF_SSLJAX_MAIN"
  )
  parser.add_argument("--processes", type=int, required=True)
  parser.add_argument("--devices", type=int, help="virtual CPU devices per process")
  parser.add_argument("arguments", nargs="*")
  options = parser.parse_args()
  if options.processes < 1 or (options.devices or 1) < 1:
    parser.error("--processes and --devices must be at least 1")
  if not any(a.lstrip("-").startswith("workdir") for a in options.arguments):
    parser.error("--workdir is missing; all processes need the same one")

  command = [sys.executable, "-m", "ssljax.main", *options.arguments]
  command.append("--config.distributed=true")
  address = f"127.0.0.1:{free_port()}"
  received: list[int] = []
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: received.append(number))
  processes = []
  for rank in range(options.processes):
    process = children.start(
      command,
      env=environment(rank, options.processes, options.devices, address),
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
  code = wait(processes, received)
  for reader in readers:
    reader.join(STOP_TIMEOUT)
  if code == TERMINATED and signal.SIGINT in received:
    return INTERRUPTED
  return code


def free_port() -> int:
  """Returns a TCP port that is free right now."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def environment(rank: int, count: int, devices: int | None, address: str) -> dict:
  """Returns the environment of one process: its rank, the coordinator, its devices."""
  variables = dict(os.environ)
  variables["JAX_COORDINATOR_ADDRESS"] = address
  variables["JAX_NUM_PROCESSES"] = str(count)
  variables["JAX_PROCESS_ID"] = str(rank)
  if devices is None:
    variables["JAX_LOCAL_DEVICE_IDS"] = str(rank)
  else:
    flag = "--xla_force_host_platform_device_count"
    other_flags = re.sub(rf"{flag}=\S*", "", variables.get("XLA_FLAGS", ""))
    variables["XLA_FLAGS"] = f"{other_flags} {flag}={devices}".strip()
    variables["JAX_PLATFORMS"] = "cpu"
  return variables


def relay(rank: int, stream) -> None:
  """Copies a process's output to stdout and prefixes each line with the rank.

  What can't be written is discarded: the process would wait if nobody read its output.
  """
  for line in stream:
    with contextlib.suppress(OSError):
      os.write(1, f"[{rank}] ".encode() + line)


def wait(processes: list[subprocess.Popen], received: list[int]) -> int:
  """Waits for all processes and forwards signals.

  Returns the first exit code that isn't 0, or 0 if all processes succeeded.
  """
  first_failure, forwarded, deadline = 0, 0, float("inf")
  while any(process.poll() is None for process in processes):
    for process in processes:
      if process.poll() and not first_failure:
        first_failure = process.returncode
        saved = first_failure in (TERMINATED, -signal.SIGTERM)
        seconds = SAVE_TIMEOUT if saved else STOP_TIMEOUT
        deadline = min(deadline, time.monotonic() + seconds)
        if not saved:  # the others can neither continue nor save without it
          send(processes, signal.SIGTERM)
    if len(received) > forwarded:
      # All processes save the same step after SIGTERM, but not after SIGINT. So Ctrl-C
      # makes the launcher send SIGTERM; a second Ctrl-C makes it send SIGKILL.
      kill = forwarded > 0 and received[-1] == signal.SIGINT
      send(processes, signal.SIGKILL if kill else signal.SIGTERM)
      deadline = min(deadline, time.monotonic() + SIGNAL_TIMEOUT)
      forwarded = len(received)
    if time.monotonic() > deadline:
      send(processes, signal.SIGKILL)
    time.sleep(0.05)
  codes = [first_failure, *(process.returncode for process in processes)]
  code = next((code for code in codes if code), 0)
  return 128 - code if code < 0 else code  # the shell's convention: 143 for SIGTERM


def send(processes: list[subprocess.Popen], number: int) -> None:
  for process in processes:
    if process.poll() is None:
      process.send_signal(number)


if __name__ == "__main__":
  sys.exit(main())
