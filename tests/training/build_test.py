"""make_method rejects settings that the method does not support."""

import pytest

from configs import base
from ssljax.errors import UserError
from ssljax.training import build


@pytest.mark.parametrize(
  ("method", "keys", "words"),
  [
    ("comatch", {"accumulation": 2}, ["comatch", "micro-batches", "--config.batch"]),
    ("mean_teacher", {}, ["mean_teacher needs a teacher", "--config.ema"]),
    ("mixmatch", {}, ["mixmatch with these settings needs", "layout=padded"]),
    ("remixmatch", {}, ["not packed", "mix=pooled"]),
  ],
)
def test_the_error_names_the_method_and_a_way_to_fix_it(method, keys, words):
  config = base.get_config(method).to_dict() | keys
  if "mix" in config["method"]:
    config["method"]["mix"] = "hidden"
  with pytest.raises(UserError) as error:
    build.make_method(config)
  for word in words:
    assert word in str(error.value)
  assert "\n" not in str(error.value)
