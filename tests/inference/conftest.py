"""Runs of version 0.1.0, trained before the tests begin."""

import json
import tarfile
from pathlib import Path

import pytest

ARCHIVE = Path(__file__).parent.parent / "old_version" / "v0.1.0.tar.xz"


@pytest.fixture(scope="module")
def old_runs(tmp_path_factory):
  """A folder with two runs on the encoder beside them.

  `finished` is of MultiMatch; `killed` is of FreeMatch and keeps a moving average of
  the parameters.
  """
  folder = tmp_path_factory.mktemp("old")
  with tarfile.open(ARCHIVE) as archive:
    archive.extractall(folder, filter="data")
  folder /= "v0.1.0"
  for name in ("finished", "killed"):
    path = folder / name / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "encoder": str(folder / "encoder")}))
  return folder
