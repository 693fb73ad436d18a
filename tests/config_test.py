"""What a config is held to, and what follows from it."""

import json
import math

import pytest

from configs import base
from ssljax import config, methods
from ssljax.errors import UserError


def given(**keys):
  return base.get_config("fixmatch").to_dict() | {"data": "somewhere"} | keys


def test_the_defaults_pass():
  config.check(given())


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("data", ""),
    ("head", "big"),
    ("steps", -1),
    ("learning_rate", math.nan),
    ("learning_rate", math.inf),
    ("dropout", 1.0),
    ("dropout", -0.1),
    ("dropout", 0.999),  # 256 of 256
    ("dropout", 0.001),  # 0 of 256
    ("seed", 10**20),
    ("layer_decay", 1.5),
    ("ema", 1.0),
    ("weak", ()),
    ("strong", ("llm", "")),
    ("strong", (3,)),
  ],
)
def test_a_value_that_cannot_be_is_named_with_its_flag(key, value):
  with pytest.raises(UserError, match=f"--config.{key}"):
    config.check(given(**{key: value}))


@pytest.mark.parametrize(
  ("keys", "labelled", "steps"),
  [
    # labelled / batch rounded up is an epoch; 100 passes of it is the run
    ({"batch": 16}, 200, (13, 1300, 13, 13)),
    ({"batch": 4}, 200, (50, 5000, 50, 50)),
    ({"steps": 300, "eval_every": 50, "warmup": 0}, 200, (13, 300, 0, 50)),
    ({"steps": 5, "eval_every": 50}, 200, (13, 5, 4, 5)),
  ],
)
def test_steps_that_follow_from_the_labels(keys, labelled, steps):
  found = config.steps_of(given(**keys), labelled)
  names = ("epoch_steps", "steps", "warmup", "eval_every")
  assert tuple(found[name] for name in names) == steps


def test_a_difference_names_key_and_both_values_and_passes_over_what_is_free():
  old = given(seed=0, distributed=True, weak=["self"])
  new = given(seed=1, distributed=False, weak=("self",))
  old["method"] = {**old["method"], "threshold": 0.9}
  assert config.difference(old, new) == [
    "method.threshold: 0.9 there, 0.95 now",
    "seed: 0 there, 1 now",
  ]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b"{}"])
def test_a_config_that_cannot_be_read_is_named(tmp_path, content):
  (tmp_path / "config.json").write_bytes(content)
  with pytest.raises(UserError, match=r"config\.json: .*give the --workdir of a run"):
    config.read(tmp_path)


def test_a_folder_without_a_run_is_named(tmp_path):
  for folder in (tmp_path, tmp_path / "none"):
    with pytest.raises(UserError, match="no run here"):
      config.read(folder)
  (tmp_path / "config.json").mkdir()
  with pytest.raises(UserError, match="cannot be read"):
    config.read(tmp_path)


def test_a_config_that_was_written_is_read(tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({"seed": 3, "resolved": {}}))
  assert config.read(tmp_path)["seed"] == 3


@pytest.mark.parametrize(
  ("name", "keyword", "value", "said"),
  [
    ("fixmatch", "threshold", -3.0, "threshold=-3.0: it must be 0 to 1"),
    ("fixmatch", "threshold", 95.0, "threshold=95.0: it must be 0 to 1"),
    ("fixmatch", "threshold", math.nan, "threshold=nan: it must be 0 to 1"),
    ("fixmatch", "scale", -1.0, "scale=-1.0: it must be 0 or more"),
    ("fixmatch", "scale", math.inf, "scale=inf: it must be 0 or more"),
    ("fixmatch", "treshold", 0.5, "no keyword 'treshold'; it has threshold, scale"),
    ("multimatch", "percentile", 5.0, "percentile=5.0: it must be 0 to 1"),
    ("marginmatch", "variant", "x", "it is one of fixed_cutoff, virtual_class"),
    ("marginmatch", "clock", "x", "clock='x': it is one of visits, epoch"),
  ],
)
def test_a_keyword_of_a_method_is_held_to_its_range(name, keyword, value, said):
  with pytest.raises(UserError, match=r"--config\.method") as error:
    methods.make({"name": name, keyword: value})
  assert said in str(error.value)


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_the_ends_of_a_range_belong_to_it(edge):
  methods.make({"name": "fixmatch", "threshold": edge, "scale": edge})
