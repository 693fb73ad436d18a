"""Creates the config of a method with all defaults; every config file starts from it.

`ssljax/config.py` describes the keys; `python -m ssljax.main --list_keys` prints them.
`--config=METHOD:TASK` sets the task, which is prompt or response: `fixmatch:response`.
`--config=METHOD:TASK+WRAPPER` adds a wrapper: `fixmatch:prompt+abc`. As a config, this
file is the same as fixmatch.py.
"""

import ml_collections

from ssljax import config as keys
from ssljax import methods, wrappers
from ssljax.errors import UserError


def get_config(method: str = "fixmatch", task: str = "prompt"):
  """Creates the config of one method.

  Args:
    method: name of a method, or the dotted name of your own module.
    task: "prompt" or "response", optionally with a wrapper, as in "prompt+abc".
  """
  task, _, wrapper = task.partition("+")
  if task not in ("prompt", "response"):
    raise UserError(f"unknown task {task!r} after the config: prompt or response")
  config = ml_collections.ConfigDict(
    {key: option.default for key, option in keys.KEYS.items()}
  )
  config.name = method.rpartition(".")[2]
  if task == "response":
    config.update(keys.RESPONSE)
  choose(config, "method", method)
  choose(config, "wrapper", wrapper)
  return config


def choose(config: ml_collections.ConfigDict, key: str, name: str) -> None:
  """Sets the method or wrapper. If it changes, its keywords get their defaults.

  Args:
    key: "method" or "wrapper".
  """
  if config.get(key, {}).get("name") != name:
    package = {"method": methods, "wrapper": wrappers}[key]
    config[key] = ml_collections.ConfigDict({"name": name, **package.defaults(name)})
