"""The config of an engine with all defaults; every config here starts from it.

ssljax/augment/settings.py describes the keys: `python -m ssljax.augment --list_keys`
prints them.
"""

import ml_collections

from ssljax.augment.settings import Settings


def get_config(engine: str, kind: str = ""):
  """The config of one engine.

  Args:
    engine: a module of ssljax/augment/engines.
    kind: name of the views; by default the engine's.
  """
  settings = Settings(engine=engine, kind=kind or engine)
  return ml_collections.ConfigDict(settings._asdict())
