"""Views by a Python function of yours: list[Source] -> list[list[view]].

  python -m ssljax.augment --config=configs/augment/custom.py --data=FOLDER \\
    --config.function=package.module:function --config.kind=mine

Any machine; the time is that of the function.
"""

from ssljax.configs.augment import base


def get_config():
  config = base.get_config("custom")
  config.function = ""  # package.module:function
  config.version = ""  # change it when the function changes
  config.stored = True  # False: quicker than a look-up; several processes
  config.batch = 64  # texts handed over at once
  return config
