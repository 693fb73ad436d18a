"""Disguises prompts as attackers do, with leetspeak, look-alike letters, Base64 etc.

  python -m ssljax.augment --config=configs/augment/adversarial.py --data=FOLDER

Runs on any machine, without a model or a network. See docs/augmentation.md.
"""

from ssljax.configs.augment import base


def get_config():
  config = base.get_config("adversarial")
  config.forms = (
    "leet",
    "homoglyphs",
    "zero_width",
    "spacing",
    "case",
    "base64",
    "rot13",
    "template",
  )
  # Turns off filters: a template may be much longer than the text, and an encoded text
  # looks nothing like the original.
  config.least_ratio = 0.0
  config.most_ratio = 0.0
  config.most_alike = 0.0
  return config
