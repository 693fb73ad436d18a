"""The methods. Each is one module, whose name is the method's name."""

from collections.abc import Mapping
from typing import Any

from ssljax.errors import UserError
from ssljax.lookup import Modules
from ssljax.method import Method

_MODULES = Modules(__name__, __path__)
names, describe = _MODULES.names, _MODULES.describe
defaults, complete = _MODULES.defaults, _MODULES.complete


def make(config: Mapping[str, Any]) -> Method:
  """Builds the method `config["name"]`; the other items are its keywords.

  >>> make({"name": "fixmatch", "threshold": 0.9}).needs.views
  ('weak', 'strong')

  Raises:
    UserError: an unknown method or keyword, or a value out of a keyword's range.
  """
  method = _MODULES.bind(config)()
  if not isinstance(method, Method):
    raise UserError(
      f"--config.method.name={config['name']}: `make` returned "
      f"{type(method).__name__}; it must return a ssljax.method.Method"
    )
  return method
