"""Says which code runs: the commit of a checkout, or the version of the package."""

import importlib.metadata
import subprocess
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def current_commit() -> str:
  """Returns the commit of the checkout that contains the package.

  If files of the package or its configs differ from the commit, or aren't in it,
  "-dirty" follows. Other files, such as results/, don't count. Outside of a checkout,
  the version of the package is returned, such as "ssljax 0.1.0".
  """
  # A package in the environment of another project isn't part of that project's commit.
  if _git("ls-files", "--error-unmatch", "__init__.py") is not None:
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", ".", ":/configs")
    if commit and changes is not None:
      return f"{commit}-dirty" if changes else commit
  try:
    return f"ssljax {importlib.metadata.version('ssljax')}"
  except importlib.metadata.PackageNotFoundError:  # copied, not installed
    return "unknown"


def _git(*arguments: str) -> str | None:
  """Returns the output of a git command in the package; None if it fails."""
  try:
    done = subprocess.run(
      ["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=True
    )
  except (OSError, subprocess.CalledProcessError):
    return None
  return done.stdout.strip()
