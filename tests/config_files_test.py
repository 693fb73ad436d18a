"""Config files: found by name or path; a file that fails gives one line."""

import sys

import pytest

from ssljax import config_files
from ssljax.errors import UserError

BASE = "from ssljax.configs import base\n"


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("def get_config(:", r"mine.py, line 1: SyntaxError"),
    ("import nothing_here", r"mine.py, line 1: ModuleNotFoundError: .*nothing_here"),
    ("import sys\nsys.exit(1)", r"mine.py, line 2: SystemExit: 1"),
    ("x = 1", r"no attribute 'get_config'"),
    ("def get_config():\n  return None", r"returns None, not a ConfigDict"),
    (BASE + "def get_config():\n  return base.nothing", r"mine.py, line 3: Attribute"),
    (BASE + "def get_config():\n  open('/none')", r"mine.py, line 3: FileNotFound"),
  ],
)
def test_a_file_that_fails_is_named_with_its_line(tmp_path, content, message):
  (tmp_path / "mine.py").write_text(content)
  with pytest.raises(UserError, match=message):
    config_files.load(tmp_path / "mine.py")


def test_a_packaged_config_takes_no_argument_that_it_does_not_know():
  with pytest.raises(UserError, match=r"demo.py: TypeError"):
    config_files.load(*config_files.find("demo:response"))


def test_names_and_paths_are_found(tmp_path, monkeypatch):
  path, argument = config_files.find("fixmatch:prompt+abc")
  assert (path.name, argument) == ("fixmatch.py", "prompt+abc")
  assert config_files.find("eda", "augment")[0].parent.name == "augment"
  monkeypatch.chdir(tmp_path)
  (tmp_path / "mine.py").write_text("")
  assert config_files.find("mine.py")[0].name == "mine.py"


def test_files_of_a_checkout_import_their_neighbours(tmp_path):
  (tmp_path / "configs").mkdir()
  (tmp_path / "configs" / "shared.py").write_text("from ssljax.configs import base\n")
  mine = tmp_path / "configs" / "mine.py"
  mine.write_text("from configs import shared\nget_config = shared.base.get_config\n")
  before = list(sys.path)
  try:
    assert config_files.load(mine).method.name == "fixmatch"
  finally:
    for name in [name for name in sys.modules if name.split(".")[0] == "configs"]:
      del sys.modules[name]
  assert sys.path == before
