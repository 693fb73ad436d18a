"""docs/config.md lists the keys of a config as ssljax/config.py describes them.

`python tests/config_doc_test.py` rewrites the page.
"""

from pathlib import Path

from ssljax import options
from ssljax.config import KEYS, RESPONSE
from ssljax.options import Option

PAGE = Path(__file__).parent.parent / "docs" / "config.md"
HEAD = """# Config keys

Set a key on the command line, `--config.labels=500`, in a config file,
`config.labels = 500`, or in Python, `ssljax.load_config("fixmatch", labels=500)`. A key
that doesn't exist, or a value out of range, stops the command with one line that names
the nearest key or the accepted values.

    python -m ssljax.main --config=fixmatch --list_keys

prints these keys and the keywords of the config's method, such as
`--config.method.threshold=0.9`. [methods.md](methods.md) explains the keywords. Keys
for augmentation are in [augmentation.md](augmentation.md).

A config file of your own starts from the packaged base:

    from ssljax.configs import base

    def get_config():
      config = base.get_config("fixmatch")
      config.data = "data/mine"
      config.method.threshold = 0.9
      return config

and is used as `--config=my_config.py`. In a checkout, `from configs import base` works
as well.

| key | default | accepts | meaning |
|---|---|---|---|
"""
FOOT = f"""
With the response task (`--config=METHOD:response`) the defaults are
`max_length={RESPONSE["max_length"]}` and `batch={RESPONSE["batch"]}`.
"""


def row(option: Option) -> str:
  accepts = option.accepts.replace("|", "\\|")
  default = options.as_flag(option.default)
  return f"| `{option.name}` | `{default}` | {accepts} | {option.meaning} |\n"


def page() -> str:
  return HEAD + "".join(map(row, KEYS.values())) + FOOT


def test_the_page_lists_every_key_as_the_code_describes_it():
  assert PAGE.read_text() == page()


if __name__ == "__main__":
  PAGE.write_text(page())
