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
  for key, name, package in (
    ("method", method, methods),
    ("wrapper", wrapper, wrappers),
  ):
    keywords = package.defaults(name)
    config[key] = ml_collections.ConfigDict({"name": name, **keywords})
  return config
