"""Serves a small chat model on this machine, to make views without any other server.

  pip install -e '.[augment,llm-test]'
  python launch/llm_server.py --model=qwen2.5-coder-0.5b-instruct-q4 --port=8000 &
  python -m ssljax.augment --config=configs/augment/llm.py --data=FOLDER \\
    --config.base_url=http://127.0.0.1:8000/v1 --config.concurrency=4 \\
    --config.model=qwen2.5-coder-0.5b-instruct-q4 --config.timeout=600

`--model` is a name of ssljax/assets/manifest.json, or the path of a
GGUF file. It is llama.cpp on the processor, for trials and tests; for real work start
vLLM or the like on a GPU. Only this machine can reach it. SIGTERM and Ctrl-C end it.
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
  parser.add_argument("--port", type=int, default=8000, help="0: a free one")
  parser.add_argument("--slots", type=int, default=4, help="requests at once")
  parser.add_argument("--context", type=int, default=4096, help="tokens of a request")
  parser.add_argument("--threads", type=int, default=os.cpu_count())
  options = parser.parse_args()
  for name, least, most in (
    *(("port", 0, 65535), ("slots", 1, 1024), ("context", 1, 1 << 20)),
    ("threads", 1, 1024),
  ):
    if not least <= getattr(options, name) <= most:
      print(f"error: --{name}: give a number from {least} to {most}", file=sys.stderr)
      return 2
  try:
    import xllamacpp
  except ImportError:
    print("error: pip install xllamacpp (extra llm-test)", file=sys.stderr)
    return 2
  try:
    file = find(options.model)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return error.code

  params = xllamacpp.CommonParams()
  params.model.path = str(file)
  params.model_alias = {options.model}
  params.n_parallel = options.slots
  params.n_ctx = options.slots * options.context  # shared out evenly
  params.cpuparams.n_threads = options.threads
  params.cpuparams_batch.n_threads = options.threads
  params.hostnames, params.port = ["127.0.0.1"], options.port
  params.verbosity = 0
  # Before the server, whose threads then leave these signals to this one.
  signals = {signal.SIGTERM, signal.SIGINT}
  signal.pthread_sigmask(signal.SIG_BLOCK, signals)
  try:
    server = xllamacpp.Server(params)
  except RuntimeError as error:
    print(
      f"error: the server does not start ({error}); is port {options.port} free, and"
      f" {file} a whole GGUF file?",
      file=sys.stderr,
    )
    return 1
  print(f"serving {options.model} at {server.listening_address}/v1", flush=True)
  signal.sigwait(signals)
  os._exit(0)  # the library's own way out may hang while requests are served


def find(model: str) -> Path:
  """The GGUF file of an asset, or the file that is named."""
  if model.endswith(".gguf"):
    if not Path(model).is_file():
      raise UserError(f"--model={model}: no such file")
    return Path(model)
  found = next(fetch.fetch(model).rglob("*.gguf"), None)
  if found is None:
    raise UserError(f"--model={model}: that asset is no model with a GGUF file")
  return found


if __name__ == "__main__":
  sys.exit(main())
