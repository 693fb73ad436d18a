"""The config of a method with all defaults; every config file starts from it.

`ssljax/config.py` describes the keys: `python -m ssljax.main --list_keys` prints them.
`METHOD:TASK` chooses the task, prompt or response, and a wrapper: `fixmatch:response`,
`fixmatch:prompt+abc`. Used by itself, this file is FixMatch's config.
"""

import ml_collections

from ssljax import config as keys
from ssljax import methods, wrappers
from ssljax.errors import UserError


def get_config(method: str = "fixmatch", task: str = "prompt"):
  """The config of one method.

  Args:
    method: name of a method, or the dotted name of a module of yours.
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
  """Sets the method or the wrapper. A new one has the defaults of its keywords.

  Args:
    key: "method" or "wrapper".
  """
  if config.get(key, {}).get("name") != name:
    package = {"method": methods, "wrapper": wrappers}[key]
    config[key] = ml_collections.ConfigDict({"name": name, **package.defaults(name)})
