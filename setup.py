"""`pip install .` starts here; the metadata is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
  """Copies the config files into the package, where a wheel has them."""

  def run(self):
    super().run()
    if not self.editable_mode:
      target = Path(self.build_lib, "ssljax", "configs")
      for source in Path("configs").rglob("*.py"):
        copy = target / source.relative_to("configs")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


setup(cmdclass={"build_py": BuildWithConfigs})
