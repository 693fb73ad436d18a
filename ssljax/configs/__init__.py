"""The config files as a package: `from ssljax.configs import base`.

In a checkout they are the files of its configs/ folder; a wheel holds a copy of them
here (see setup.py).
"""

from pathlib import Path

if not (Path(__file__).parent / "base.py").exists():
  __path__ = [str(Path(__file__).parents[2] / "configs")]
