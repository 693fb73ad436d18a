"""Adds views to a dataset folder, or shows the ones it has.

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
  flags.DEFINE_string("kind", "", "kind of views; default: all kinds")
  flags.DEFINE_integer("rows", 20, "number of texts to show, evenly spaced", 1)
  flags.DEFINE_string("split", "train", "split to show")
  flags.DEFINE_string("output", "", "HTML page to write; default: inspect.html")


def _define_data() -> None:
  flags.DEFINE_string("data", None, "dataset folder", required=True)


def main() -> int:
  from ssljax.augment import report
  from ssljax.augment.query import Stopped
  from ssljax.augment.run import run
  from ssljax.runtime.signals import StopSignals

  values = flags.FLAGS
  if values.config is None:
    raise UserError(
      "no --config; name a file of configs/augment/, such as "
      "--config=configs/augment/eda.py"
    )
  # The dataset folder is complete at any moment, so a second signal may exit at once.
  with StopSignals(on_stop=_announce_stop, abort=os._exit) as stop:
    try:
      result = run(values.config.to_dict(), values.data, stop, values.runner)
    except Stopped:
      print(
        f"stopped: {values.data} is unchanged; run the same command to continue",
        file=sys.stderr,
      )
      return stop.code
  print("\n".join(report.format_lines(result)))
  print(f"train with --config.data={values.data} --config.strong={result['kind']}")
  return 0


def show() -> int:
  from ssljax.augment import inspect

  values = flags.FLAGS
  return inspect.show(
    values.data, values.kind, values.rows, values.split, values.output
  )


def _announce_stop() -> None:
  print(
    "stopping after the requests in flight; press Ctrl-C again to exit at once",
    file=sys.stderr,
    flush=True,
  )


if __name__ == "__main__":
  os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
  if sys.argv[1:2] == ["inspect"]:
    del sys.argv[1]
    define_inspect_flags()
    cli.run(show)
  else:
    define_flags()
    cli.run(main)
