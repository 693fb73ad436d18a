"""The folder of a run: it is continued only with the files that it was started with."""

import json

import pytest

from ssljax.config import KEYS
from ssljax.errors import UserError
from ssljax.training import workdir as folder


def config(**hashes):
  resolved = {"labels": ["0", "1"], **hashes}
  return {"encoder": "encoders/tiny", "wrapper": {"name": ""}, "resolved": resolved}


@pytest.mark.parametrize(
  ("name", "files"),
  [
    ("tokenizer_sha256", "config.json or the tokenizer files"),
    ("weights_sha256", "the weights"),
  ],
)
def test_a_run_whose_encoder_has_changed_is_not_continued(tmp_path, name, files):
  defaults = {key: option.absent for key, option in KEYS.items()}
  now = defaults | config(tokenizer_sha256="a", weights_sha256="b")
  (tmp_path / "config.json").write_text(json.dumps(now))
  folder.claim(tmp_path, now)
  changed = {**now, "resolved": {**now["resolved"], name: "c"}}
  message = f"^{tmp_path}: {files} of its encoder encoders/tiny have changed since"
  with pytest.raises(UserError, match=message):
    folder.claim(tmp_path, changed)
  (tmp_path / "config.json").write_text(json.dumps(defaults | config()))
  folder.claim(tmp_path, changed)  # a run of version 0.1.0 holds no hashes


def test_what_a_kill_left_is_cleared_and_nothing_else(tmp_path):
  # A process id that no process can have.
  left = (".result.0123456789abcdef.json", ".result.json.9999999")
  (tmp_path / "predictions").mkdir()
  for name in (*left, ".metrics.jsonl.9999999", ".notes.0123456789abcdef"):
    (tmp_path / name).touch()
  (tmp_path / "predictions" / ".test.0123456789abcdef.parquet").touch()
  folder.start(tmp_path, {})
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {".notes.0123456789abcdef", "config.json", "predictions"}
  assert list((tmp_path / "predictions").iterdir()) == []
