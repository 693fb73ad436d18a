"""Trains a classifier: python -m ssljax.main --config=configs/fixmatch.py."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from ssljax import cli, config_files, methods, options, wrappers
from ssljax.config import KEYS, new_workdir, validate
from ssljax.configs import base
from ssljax.errors import RunError, UserError

END_TIMEOUT = 10  # seconds

flags.DEFINE_string("config", None, "name or file of a config")
flags.DEFINE_string("workdir", None, "folder of the run; default: runs/<name>-<time>")
flags.DEFINE_bool("list_keys", False, "print the keys of the config and stop")


def main() -> int:
  config = flags.FLAGS.config and flags.FLAGS.config.to_dict()
  if flags.FLAGS.list_keys:
    print("\n".join(list_keys(config)))
    return 0
  if config is None:
    names = {file.stem for file in config_files.folder().glob("[a-z]*.py")} - {"base"}
    raise UserError(
      "no config: give --config=configs/fixmatch.py, or one of these names: "
      f"{', '.join(sorted(names))}"
    )
  validate(config)
  workdir = Path(flags.FLAGS.workdir or new_workdir(config["name"])).expanduser()
  if config["distributed"]:
    if not flags.FLAGS.workdir:
      raise UserError(
        "give --workdir, a folder that all processes share; without it, each process "
        "would create its own folder"
      )
    join_processes()
  from ssljax.train import run  # after jax.distributed, which must come first

  if config["distributed"]:
    with ending_soon():
      return cli.guarded(lambda: run(config, workdir), [""])
  return run(config, workdir)


def list_keys(config: Mapping[str, Any] | None) -> list[str]:
  """Returns a line for each key, and for each keyword of the method and wrapper.

  The lines show the values of the config; without a config, the defaults.
  """
  lines = options.listing(KEYS, "--config.", config or {})
  if config is None:
    return [*lines, "--config=METHOD lists the keywords of the method as well."]
  for key, package in (("method", methods), ("wrapper", wrappers)):
    if name := config.get(key, {}).get("name"):
      lines += ["", f"{key} {name}:"]
      described = package.describe(name)
      lines += options.listing(described, f"--config.{key}.", config[key])
  return lines


def join_processes() -> None:
  """Joins the other processes of the run.

  Under SLURM and Open MPI, and on Cloud TPU and GKE, JAX finds them by itself.
  Elsewhere, set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
  """
  import jax

  names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
  try:
    if names[0] in os.environ:
      address, processes, process = (os.environ[name] for name in names)
      jax.distributed.initialize(address, int(processes), int(process))
    else:
      jax.distributed.initialize()
  except (KeyError, ValueError) as error:
    raise UserError(
      f"--config.distributed=true: {error}; start it under SLURM or Open MPI, on Cloud "
      f"TPU or GKE, or set {', '.join(names)} as launch/local.py does"
    ) from error


@contextlib.contextmanager
def ending_soon() -> Iterator[None]:
  """Ends this process soon after an error, even if the other processes continue.

  JAX would wait for them for five minutes, and they wait for this process.
  """
  try:
    yield
  except BaseException as error:
    import jax

    if not isinstance(error, SystemExit):
      sys.excepthook(type(error), error, error.__traceback__)
    # If all processes fail together, they part here; this takes no time.
    end = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    end.start()
    end.join(END_TIMEOUT)
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(OSError, AttributeError):  # full, or closed
        stream.flush()
    os._exit(error.code if isinstance(error, SystemExit) else RunError.code)


if __name__ == "__main__":
  cli.run(main, choose=base.choose)
