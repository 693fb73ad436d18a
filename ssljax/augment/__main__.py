"""Adds views to a dataset folder, or shows the ones it has.

python -m ssljax.augment --config=configs/augment/eda.py --data=FOLDER
python -m ssljax.augment inspect --data=FOLDER --output=page.html
"""

import os
import sys

from absl import flags
from ml_collections import config_flags

from ssljax import cli, options
from ssljax.augment import engines
from ssljax.augment.settings import KEYS
from ssljax.errors import UserError


def define_flags() -> None:
  config_flags.DEFINE_config_file("config", None, "a config: its name or its file")
  flags.DEFINE_string("data", None, "dataset folder")
  flags.DEFINE_bool("list_keys", False, "print the keys of the config and stop")
  flags.DEFINE_enum("runner", "local", ["local", "ray"], "ray: a cluster, extra ray")


def define_inspect_flags() -> None:
  flags.DEFINE_string("data", None, "dataset folder", required=True)
  flags.DEFINE_string("kind", "", "kind of views; default: all kinds")
  flags.DEFINE_integer("rows", 20, "number of texts to show, evenly spaced", 1)
  flags.DEFINE_string("split", "train", "split to show")
  flags.DEFINE_string("output", "", "HTML page to write; default: inspect.html")


def main() -> int:
  from ssljax.augment import report
  from ssljax.augment.query import Stopped
  from ssljax.augment.run import run
  from ssljax.runtime.signals import StopSignals

  values = flags.FLAGS
  if values.list_keys:
    print("\n".join(list_keys(values.config)))
    return 0
  if values.config is None:
    raise UserError(
      "no config: give --config=configs/augment/eda.py, or a name: "
      f"{', '.join(engines.names())}"
    )
  if not values.data:
    raise UserError("no data: give --data=FOLDER, a dataset folder")
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


def list_keys(config) -> list[str]:
  """A line for each key; also the keywords of the config's engine, if there is one."""
  lines = options.listing(KEYS, "--config.")
  if config is None:
    return [*lines, "With --config=ENGINE its keywords are listed as well."]
  described = engines.describe(config.engine)
  own = {key: option for key, option in described.items() if key not in KEYS}
  return [*lines, "", f"engine {config.engine}:", *options.listing(own, "--config.")]


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
    cli.run(main, configs="augment")
