"""Adds views to a dataset folder, or shows those that are there.

python -m ssljax.augment --config=configs/augment/eda.py --data=FOLDER
python -m ssljax.augment inspect --data=FOLDER --output=page.html
"""

import os
import sys

from absl import flags
from ml_collections import config_flags

from ssljax import cli
from ssljax.errors import UserError


def define_flags() -> None:
  config_flags.DEFINE_config_file("config", None, "a file of configs/augment/")
  _define_data()
  flags.DEFINE_enum("runner", "local", ["local", "ray"], "ray: a cluster, extra ray")


def define_inspect_flags() -> None:
  _define_data()
  flags.DEFINE_string("kind", "", "of the views; default every kind")
  flags.DEFINE_integer("rows", 20, "texts to show, evenly spaced", 1)
  flags.DEFINE_string("split", "train", "where they are taken from")
  flags.DEFINE_string("output", "", "HTML page to write; default inspect.html")


def _define_data() -> None:
  flags.DEFINE_string("data", None, "dataset folder", required=True)


def main() -> int:
  from ssljax.augment import report
  from ssljax.augment.query import Stopped
  from ssljax.augment.run import run
  from ssljax.runtime.signals import StopSignals

  given = flags.FLAGS
  if given.config is None:
    raise UserError(
      "no config: give --config=configs/augment/eda.py, or another of them"
    )
  # The data folder is complete at any moment, so that a second signal may exit at once.
  with StopSignals(on_stop=_announce_stop, abort=os._exit) as stop:
    try:
      found = run(given.config.to_dict(), given.data, stop, given.runner)
    except Stopped:
      print(
        f"stopped: {given.data} is as it was; run the same command to go on",
        file=sys.stderr,
      )
      return stop.code
  print("\n".join(report.lines(found)))
  print(f"train with --config.data={given.data} --config.strong={found['kind']}")
  return 0


def _announce_stop() -> None:
  print(
    "stopping: waiting for answers that are on their way; a second signal exits now",
    file=sys.stderr,
    flush=True,
  )


def show() -> int:
  from ssljax.augment import inspect

  given = flags.FLAGS
  return inspect.show(given.data, given.kind, given.rows, given.split, given.output)


if __name__ == "__main__":
  os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
  if sys.argv[1:2] == ["inspect"]:
    del sys.argv[1]
    define_inspect_flags()
    cli.run(show)
  else:
    define_flags()
    cli.run(main)
