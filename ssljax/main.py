"""Trains a classifier: python -m ssljax.main --config=configs/fixmatch.py."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from ssljax import cli, config_files, methods, options, wrappers
from ssljax.config import KEYS, MODULES, new_workdir, validate
from ssljax.errors import UserError

config_flags.DEFINE_config_file("config", None, "a config: its name or its file")
flags.DEFINE_string("workdir", None, "folder of the run; default runs/<name>-<time>")
flags.DEFINE_bool("list_keys", False, "print the keys of the config and stop")

_PACKAGES = {"method": methods, "wrapper": wrappers}
# Flags of a method or wrapper that replaces the config's: {"method": {"name": …}}.
_MODULE_FLAGS: dict[str, dict[str, str]] = {}


def main() -> int:
  config = flags.FLAGS.config
  if flags.FLAGS.list_keys:
    print("\n".join(list_keys(config and config.to_dict())))
    return 0
  if config is None:
    names = [file.stem for file in config_files.folder().glob("[a-z]*.py")]
    raise UserError(
      "no config: give --config=configs/fixmatch.py, or a name: "
      f"{', '.join(sorted(set(names) - {'base'}))}"
    )
  config = config.to_dict()
  config |= _chosen_modules(config)
  validate(config)  # before the slow imports
  config["method"] = methods.complete(config["method"])
  config["wrapper"] = wrappers.complete(config["wrapper"])
  workdir = Path(flags.FLAGS.workdir or new_workdir(config["name"])).expanduser()
  if config["distributed"]:
    if not flags.FLAGS.workdir:
      raise UserError(
        "give --workdir, a folder that all processes share; without it each process "
        "would make its own"
      )
    join_processes()
  from ssljax.train import run  # after jax.distributed, which must come first

  return run(config, workdir)


def take_module_flags(argv: list[str]) -> list[str]:
  """Removes the flags of a method or wrapper that is chosen by a flag.

  The keywords of --config.method.name=NAME are those of NAME, and not of the config's
  method, so they can't be parsed as changes to the config.
  """
  for key in MODULES:
    prefix = f"--config.{key}."
    words = [word for word in argv if word.startswith(prefix)]
    flags_of = dict(word.removeprefix(prefix).partition("=")[::2] for word in words)
    if "name" in flags_of:
      _MODULE_FLAGS[key] = flags_of
      argv = [word for word in argv if word not in words]
  return argv


def _chosen_modules(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Name and keywords of each method or wrapper that is chosen by a flag."""
  chosen = {}
  for key, texts in _MODULE_FLAGS.items():
    if not texts["name"]:
      chosen[key] = {"name": ""}
      continue
    described = _PACKAGES[key].describe(texts["name"])
    try:
      given = {
        name: options.parse(described[name], text) if name in described else text
        for name, text in texts.items()
      }
    except ValueError as error:
      raise UserError(f"--config.{key}.{error}") from None
    keywords = {name: option.default for name, option in described.items()}
    if config.get(key, {}).get("name") == texts["name"]:
      keywords = config[key]
    chosen[key] = {**keywords, **given}
  return chosen


def list_keys(config: dict[str, Any] | None) -> list[str]:
  """A line for each key; also the keywords of the config's method, if there is one."""
  lines = options.listing(KEYS, "--config.")
  if config is None:
    return [*lines, "With --config=METHOD its keywords are listed as well."]
  config = config | _chosen_modules(config)
  for key, package in _PACKAGES.items():
    if name := config.get(key, {}).get("name"):
      lines += ["", f"{key} {name}:"]
      lines += options.listing(package.describe(name), f"--config.{key}.")
  return lines


def join_processes() -> None:
  """Joins the other processes of the run.

  JAX finds them by itself under SLURM, Open MPI, on Cloud TPU and GKE. Elsewhere they
  are described by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
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
      f"--config.distributed=true: {error}; start it under SLURM, Open MPI, on Cloud "
      f"TPU or GKE, or set {', '.join(names)}, as launch/local.py does"
    ) from error


if __name__ == "__main__":
  sys.argv = take_module_flags(cli.normalized(sys.argv))
  cli.run(main)
