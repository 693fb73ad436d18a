"""What a method cannot work with is refused by its name, before anything is built."""

import pytest

from configs import base
from ssljax.errors import UserError
from ssljax.training import build


@pytest.mark.parametrize(
  ("method", "keys", "words"),
  [
    ("comatch", {"accumulation": 2}, ["comatch", "micro-batches", "--config.batch"]),
    ("mean_teacher", {}, ["mean_teacher needs a teacher", "--config.ema"]),
    ("mixmatch", {}, ["mixmatch as it is set needs", "layout=padded"]),
    ("remixmatch", {}, ["it is packed", "mix=pooled"]),
  ],
)
def test_a_setting_that_a_method_cannot_work_with(method, keys, words):
  config = base.get_config(method).to_dict() | keys
  if "mix" in config["method"]:
    config["method"]["mix"] = "hidden"
  with pytest.raises(UserError) as error:
    build.make_method(config)
  for word in words:
    assert word in str(error.value)
  assert "\n" not in str(error.value)
