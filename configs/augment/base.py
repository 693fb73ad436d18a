"""Creates an engine's config with all defaults; each config here starts from it.

ssljax/augment/settings.py describes the keys; `python -m ssljax.augment --list_keys`
prints them.
"""

import ml_collections

from ssljax.augment.settings import Settings


def get_config(engine: str, kind: str = ""):
  """Creates the config of one engine.

  Args:
    engine: name of a module in ssljax/augment/engines.
    kind: name of the views; by default the name of the engine.
  """
  settings = Settings(engine=engine, kind=kind or engine)
  return ml_collections.ConfigDict(settings._asdict())
