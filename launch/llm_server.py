"""Serves a small chat model on the CPU with llama.cpp, to try out the LLM engine.

  pip install -e '.[augment,llm-test]'
  python launch/llm_server.py --model=qwen2.5-coder-0.5b-instruct-q4 --port=8000 &
  python -m ssljax.augment --config=configs/augment/llm.py --data=FOLDER \\
    --config.base_url=http://127.0.0.1:8000/v1 --config.concurrency=4 \\
    --config.model=qwen2.5-coder-0.5b-instruct-q4 --config.timeout=600

`--model` is the name of an asset in ssljax/assets/manifest.json or the path of a GGUF
file. The server only accepts local connections; SIGTERM or Ctrl-C stops it. For real
work, use vLLM or a similar server on a GPU.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from ssljax.assets import fetch
from ssljax.errors import UserError


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct-q4")
  parser.add_argument("--port", type=int, default=8000, help="0: any free port")
  parser.add_argument("--slots", type=int, default=4, help="concurrent requests")
  parser.add_argument("--context", type=int, default=4096, help="tokens per request")
  parser.add_argument("--threads", type=int, default=os.cpu_count())
  options = parser.parse_args()
  for name, low, high in (
    ("port", 0, 65535),
    ("slots", 1, 1024),
    ("context", 1, 1 << 20),
    ("threads", 1, 1024),
  ):
    if not low <= (value := getattr(options, name)) <= high:
      print(f"error: --{name}={value}: must be {low} to {high}", file=sys.stderr)
      return 2
  try:
    import xllamacpp
  except ImportError:
    print("error: xllamacpp is missing: pip install xllamacpp", file=sys.stderr)
    return 2
  try:
    file = find_gguf(options.model)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return error.code

  params = xllamacpp.CommonParams()
  params.model.path = str(file)
  params.model_alias = {options.model}
  params.n_parallel = options.slots
  params.n_ctx = options.slots * options.context  # each slot gets an equal share
  params.cpuparams.n_threads = options.threads
  params.cpuparams_batch.n_threads = options.threads
  params.hostnames, params.port = ["127.0.0.1"], options.port
  params.verbosity = 0
  # Block the signals before the server starts, so that its threads don't receive them.
  signals = {signal.SIGTERM, signal.SIGINT}
  signal.pthread_sigmask(signal.SIG_BLOCK, signals)
  try:
    server = xllamacpp.Server(params)
  except RuntimeError as error:
    print(
      f"error: the server failed to start ({error}); check that port {options.port} is"
      f" free and that {file} is a complete GGUF file",
      file=sys.stderr,
    )
    return 1
  print(f"serving {options.model} at {server.listening_address}/v1", flush=True)
  signal.sigwait(signals)
  os._exit(0)  # the library's shutdown may hang while it serves requests


def find_gguf(model: str) -> Path:
  """Returns the path of the GGUF file; if `model` names an asset, fetches it first."""
  if model.endswith(".gguf"):
    if not Path(model).is_file():
      raise UserError(f"--model={model}: no such file")
    return Path(model)
  path = next(fetch.fetch(model).rglob("*.gguf"), None)
  if path is None:
    raise UserError(f"--model={model}: this asset contains no GGUF file")
  return path


if __name__ == "__main__":
  sys.exit(main())
