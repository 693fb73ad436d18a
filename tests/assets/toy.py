"""A toy asset that tests fetch: its files, its wheel, and a check of its errors."""

import zipfile

import pytest

from ssljax.assets import fetch
from ssljax.errors import UserError

MEMBERS = {"toy/data/config.json": b'{"a": 1}', "toy/data/weights.bin": bytes(5000)}
WHEEL = "toy_data-1.0-py3-none-any.whl"


def write_wheel(folder, members=MEMBERS):
  folder.mkdir(exist_ok=True)
  with zipfile.ZipFile(folder / WHEEL, "w", zipfile.ZIP_DEFLATED) as archive:
    # Importing the package would end the test.
    archive.writestr("toy/__init__.py", "raise SystemExit('imported')")
    for member, content in members.items():
      archive.writestr(member, content)
    info = "toy_data-1.0.dist-info/"
    archive.writestr(
      info + "METADATA",
      "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\nRequires-Python: <3\n"
      "Requires-Dist: no-such-package\n",
    )
    archive.writestr(
      info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    archive.writestr(info + "RECORD", "")
  return folder / WHEEL


def assert_fails(cache, *words):
  """fetch("toy") raises one line with all these words and leaves nothing behind."""
  with pytest.raises(UserError) as caught:
    fetch.fetch("toy")
  message = str(caught.value)
  assert "\n" not in message
  for word in words:
    assert word in message
  assert list((cache / "assets").iterdir()) == []
