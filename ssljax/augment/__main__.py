"""Adds views to a dataset folder, or shows the views of a dataset folder.

python -m ssljax.augment --config=configs/augment/eda.py --data=FOLDER
python -m ssljax.augment inspect --data=FOLDER --output=page.html
"""

import os
import sys
from functools import partial

from absl import flags

from ssljax import cli, options
from ssljax.augment import engines
from ssljax.augment.settings import KEYS
from ssljax.errors import UserError


def define_flags() -> None:
  flags.DEFINE_string("config", None, "name or file of a config")
  flags.DEFINE_string("data", None, "dataset folder")
  flags.DEFINE_bool("list_keys", False, "print the keys of the config and stop")
  flags.DEFINE_enum(
    "runner", "local", ["local", "ray"], "ray is for clusters, and needs the extra ray"
  )


def define_inspect_flags() -> None:
  flags.DEFINE_string("data", None, "dataset folder", required=True)
  flags.DEFINE_string("kind", "", "kind of views to show; by default all kinds")
  flags.DEFINE_integer(
    "rows",
    None,
    "number of texts to show; default 100 on a page, 20 in the terminal",
    1,
  )
  flags.DEFINE_integer("seed", 0, "seed of the random draw of texts", 0)
  flags.DEFINE_string("split", "train", "split to show")
  flags.DEFINE_string(
    "output", None, "HTML page to write; without it, the texts are printed"
  )


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
    names = ", ".join(engines.names())
    raise UserError(
      f"no config: give --config=configs/augment/eda.py, or one of these names: {names}"
    )
  log = partial(print, file=sys.stderr, flush=True)
  announce = (
    "stopping when the requests in flight have finished; press Ctrl-C again to exit now"
  )
  # The dataset folder is complete at any moment, so a second signal may exit at once.
  with StopSignals(on_stop=partial(log, announce), abort=os._exit) as stop:
    try:
      result = run(values.config.to_dict(), values.data, stop, values.runner)
    except Stopped:
      log(f"stopped: {values.data} is unchanged; run the same command to continue")
      return stop.code
  print("\n".join(report.format_lines(result)))
  print(f"train with --config.data={values.data} --config.strong={result['kind']}")
  return 0


def list_keys(config) -> list[str]:
  """Describes the config keys and, if there is a config, its engine's keywords.

  The lines show the values of the config; without a config, the defaults.
  """
  values = config.to_dict() if config else {}
  lines = options.listing(KEYS, "--config.", values)
  if not values.get("engine"):
    return [*lines, "Add --config=ENGINE to list the keywords of an engine."]
  described = engines.describe(config.engine)
  keywords = {key: option for key, option in described.items() if key not in KEYS}
  lines += ["", f"engine {config.engine}:"]
  return lines + options.listing(keywords, "--config.", values)


def show() -> int:
  from ssljax.augment import inspect

  v = flags.FLAGS
  return inspect.show(v.data, v.kind, v.rows, v.split, v.output, v.seed)


if __name__ == "__main__":
  os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
  if sys.argv[1:2] == ["inspect"]:
    del sys.argv[1]
    define_inspect_flags()
    cli.run(show)
  else:
    define_flags()
    cli.run(main, configs="augment")
