"""Back-translation: translates a text into another language and back.

  python -m ssljax.augment --config=configs/augment/backtranslation.py --data=FOLDER

Apertium, a rule-based translator, runs on any Debian machine:
  pip install -e '.[augment]' && apt-get install -y apertium apertium-eng-spa
MarianMT, which the reference implementation used, needs a GPU. Its models come from the
Hub, or from the folder config.models:
  pip install -e '.[marian]'
  … --config.translator=marian --config.pivots="('ru', 'de', 'fr', 'ro')"
    --config.views=4

See docs/augmentation.md.
"""

from ssljax.configs.augment import base


def get_config():
  config = base.get_config("backtranslation")
  config.translator = "apertium"  # or "marian"
  config.pivots = ("es",)  # at most one view each; "ca" needs apertium-eng-cat
  config.source = "en"  # the language of the texts
  config.models = ""  # marian: folder with models; "": from the Hub
  config.device = ""  # marian: torch device; "": a GPU if there is one
  config.batch = 32  # marian: sentences translated together
  config.language = "same"  # Apertium leaves words untranslated that it doesn't know
  config.most_alike = 0.99  # short texts often come back nearly unchanged
  return config
