"""Back-translation: a text goes into another language and comes back in other words.

  python -m ssljax.augment --config=configs/augment/backtranslation.py --data=FOLDER

With Apertium, by rules: any Debian machine; its speed: docs/augmentation.md.
  pip install -e '.[augment]' && apt-get install -y apertium apertium-eng-spa
With MarianMT, as the reference did it: a GPU; models from the hub or config.models.
  pip install -e '.[marian]'
  … --config.translator=marian --config.pivots="('ru', 'de', 'fr', 'ro')"
    --config.views=4
"""

from ssljax.configs.augment import base


def get_config():
  config = base.get_config("backtranslation")
  config.translator = "apertium"  # or "marian"
  config.pivots = ("es",)  # each gives a view; "ca" needs apertium-eng-cat
  config.source = "en"  # language of the texts
  config.models = ""  # marian: folder of models; "": the hub
  config.device = ""  # marian: of torch; "": a GPU where there is one
  config.batch = 32  # marian: sentences translated together
  config.language = "same"  # what the translator does not know comes back as it was
  config.most_alike = 0.99  # a short text may come back nearly as it was
  return config
