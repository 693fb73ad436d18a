"""Makes views with your own Python function, list[Source] -> list[list[view]].

  python -m ssljax.augment --config=configs/augment/custom.py --data=FOLDER \\
    --config.function=package.module:function --config.kind=mine

See docs/augmentation.md.
"""

from ssljax.configs.augment import base


def get_config():
  config = base.get_config("custom")
  config.function = ""  # package.module:function
  config.version = ""  # set another version when the function changes
  config.stored = True  # cache the views; False: no cache, and several processes
  config.batch = 64  # number of texts in one call
  return config
