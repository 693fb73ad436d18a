"""Trains a classifier: python -m ssljax.main --config=configs/fixmatch.py."""

import os
import time
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ssljax import cli, wrappers
from ssljax import config as configuration
from ssljax.errors import UserError

config_flags.DEFINE_config_file("config", None, "a file of configs/")
flags.DEFINE_string("workdir", None, "folder of the run; default runs/<config>-<time>")


def main() -> int:
  if flags.FLAGS.config is None:
    raise UserError("no config: give --config=configs/fixmatch.py, or another")
  config = flags.FLAGS.config.to_dict()
  config["wrapper"] = wrappers.complete(config["wrapper"])
  configuration.check(config)  # before anything that takes its time to load
  name = f"{config['name']}-{time.strftime('%Y%m%d-%H%M%S')}"
  workdir = Path(flags.FLAGS.workdir or Path("runs") / name).expanduser()
  if config["distributed"]:
    if not flags.FLAGS.workdir:
      raise UserError(
        "give --workdir, one that all processes share: left out, each would name its "
        "own folder"
      )
    distributed()
  from ssljax import train  # after jax.distributed, which must come first

  return train.run(config, workdir)


def distributed() -> None:
  """Joins the other processes of the run.

  SLURM, Cloud TPU, GKE and Open MPI are found by JAX itself; anywhere else
  JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say who is who.
  """
  import jax

  names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
  way_out = (
    f"start it under SLURM, Open MPI, on Cloud TPU or GKE, or set {', '.join(names)}, "
    "as launch/local.py does"
  )
  try:
    if names[0] in os.environ:
      address, processes, process = (os.environ[name] for name in names)
      jax.distributed.initialize(address, int(processes), int(process))
    else:
      jax.distributed.initialize()
  except (KeyError, ValueError) as error:
    raise UserError(f"--config.distributed=true: {error}; {way_out}") from error


if __name__ == "__main__":
  cli.run(main)
