"""The forms in which attackers hide a prompt: leetspeak, look-alike letters, Base64, …

  python -m ssljax.augment --config=configs/augment/adversarial.py --data=FOLDER

Any machine; no model, no network.
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
  # A frame is longer than a short text, and code looks like no language.
  config.least_ratio = 0.0
  config.most_ratio = 0.0
  config.most_alike = 0.0
  return config
