"""The checks of a config, and the values that follow from it."""

import json
import math

import pytest

from ssljax import config as configuration
from ssljax import methods, run_config
from ssljax.configs import base
from ssljax.errors import UserError


def config_with(**keys):
  return base.get_config("fixmatch").to_dict() | {"data": "somewhere"} | keys


def test_the_defaults_pass():
  configuration.validate(config_with())


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
    ("labelled_imbalance", 0.5),
    ("unlabelled_imbalance", math.inf),
  ],
)
def test_a_bad_value_is_named_with_its_flag(key, value):
  with pytest.raises(UserError, match=f"--config.{key}"):
    configuration.validate(config_with(**{key: value}))


def test_an_unknown_key_is_refused_with_the_nearest_name():
  with pytest.raises(UserError, match="learning_rat; did you mean 'learning_rate'"):
    configuration.validate(config_with(learning_rat=1))


def test_a_config_that_lacks_keys_says_which():
  config = config_with()
  del config["steps"], config["head"]
  with pytest.raises(UserError, match=r"lacks head, steps; start it from ssljax\."):
    configuration.validate(config)


@pytest.mark.parametrize("key", ["labelled_imbalance", "unlabelled_imbalance"])
def test_an_imbalance_needs_a_label_budget(key):
  configuration.validate(config_with(**{key: 10.0}))
  with pytest.raises(UserError, match=f"--config.{key}=10 needs a label budget"):
    configuration.validate(config_with(labels=0, **{key: 10.0}))


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
def test_step_counts_follow_from_the_number_of_labels(keys, labelled, steps):
  counts = configuration.steps_of(config_with(**keys), labelled)
  names = ("epoch_steps", "steps", "warmup", "eval_every")
  assert tuple(counts[name] for name in names) == steps


def test_a_difference_names_the_key_and_both_values():
  old = config_with(seed=0, distributed=True, weak=["self"])
  new = config_with(seed=1, distributed=False, weak=("self",))
  old["method"] = {**old["method"], "threshold": 0.9}
  assert run_config.difference(old, new) == [
    "method.threshold: 0.9 in the run, 0.95 now",
    "seed: 0 in the run, 1 now",
  ]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b"{}"])
def test_an_unreadable_config_is_named(tmp_path, content):
  (tmp_path / "config.json").write_bytes(content)
  with pytest.raises(UserError, match=r"config\.json: .*give the --workdir of a run"):
    run_config.read(tmp_path)


def test_a_folder_without_a_run_is_named(tmp_path):
  for folder in (tmp_path, tmp_path / "none"):
    with pytest.raises(UserError, match="no run here"):
      run_config.read(folder)
  (tmp_path / "config.json").mkdir()
  with pytest.raises(UserError, match="cannot be read"):
    run_config.read(tmp_path)


def test_a_saved_config_is_read(tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({"seed": 3, "resolved": {}}))
  assert run_config.read(tmp_path)["seed"] == 3


@pytest.mark.parametrize(
  ("name", "keyword", "value", "message"),
  [
    ("fixmatch", "threshold", -3.0, "threshold=-3.0: it must be 0 to 1"),
    ("fixmatch", "threshold", 95.0, "threshold=95.0: it must be 0 to 1"),
    ("fixmatch", "threshold", math.nan, "threshold=nan: it must be 0 to 1"),
    ("fixmatch", "scale", -1.0, "scale=-1.0: it must be 0 or more"),
    ("fixmatch", "scale", math.inf, "scale=inf: it must be finite"),
    ("marginmatch", "cut_off", math.nan, "cut_off=nan: it must be finite (marginm"),
    ("fixmatch", "treshold", 0.5, "did you mean 'threshold'?"),
    ("multimatch", "percentile", 5.0, "percentile=5.0: it must be 0 to 1"),
    ("marginmatch", "variant", "x", "it must be one of fixed_cutoff, virtual_class"),
    ("marginmatch", "clock", "x", "clock='x': it must be one of visits, epoch"),
    ("comatch", "temperature", 0.0, "temperature=0.0: it must be 0.001 or more"),
    ("simmatch", "temperature", 0.0, "temperature=0.0: it must be 0.001 or more"),
    ("comatch", "batches", 0, "batches=0: it must be 1 or more"),
    ("comatch", "window", 0, "window=0: it must be 1 or more"),
    ("simmatch", "width", 0, "width=0: it must be 1 or more"),
    ("crmatch", "width", -4, "width=-4: it must be 1 or more"),
    ("dash", "cuts", -5, "cuts=-5: it must be 1 or more"),
    ("dash", "gamma", 0.0, "gamma=0.0: it must be 1 or more"),
  ],
)
def test_a_keyword_must_be_in_its_range(name, keyword, value, message):
  with pytest.raises(UserError, match=r"--config\.method") as error:
    methods.make({"name": name, keyword: value})
  assert message in str(error.value)


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_both_ends_of_a_range_are_accepted(edge):
  methods.make({"name": "fixmatch", "threshold": edge, "scale": edge})
