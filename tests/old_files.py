"""The files that version 0.1.0 wrote; tests/old_version/README.md lists them."""

import json
import tarfile
from pathlib import Path
from typing import Any

ARCHIVE = Path(__file__).parent / "old_version" / "v0.1.0.tar.xz"


def extract(folder: Path) -> Path:
  """Unpacks the archive; the runs expect to be used with this as working directory."""
  with tarfile.open(ARCHIVE) as archive:
    archive.extractall(folder, filter="data")
  return folder / "v0.1.0"


def set_keys(workdir: Path, **keys: Any) -> None:
  """Changes keys in the config of a run, such as the path of its encoder."""
  path = workdir / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | keys))
