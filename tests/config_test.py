"""What a config is held to, and what follows from it."""

import json
import math

import jax
import numpy as np
import pytest

from configs import base
from ssljax import config as configuration
from ssljax import methods, wrappers
from ssljax.errors import UserError
from ssljax.method import Sizes


def given(**keys):
  return base.get_config("fixmatch").to_dict() | {"data": "somewhere"} | keys


def test_the_defaults_pass():
  configuration.check(given())


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
def test_a_value_that_cannot_be_is_named_with_its_flag(key, value):
  with pytest.raises(UserError, match=f"--config.{key}"):
    configuration.check(given(**{key: value}))


@pytest.mark.parametrize("key", ["labelled_imbalance", "unlabelled_imbalance"])
def test_every_label_leaves_nothing_to_shape(key):
  configuration.check(given(**{key: 10.0}))
  with pytest.raises(UserError, match=f"--config.{key}=10 shapes a budget"):
    configuration.check(given(labels=0, **{key: 10.0}))


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
  found = configuration.steps_of(given(**keys), labelled)
  names = ("epoch_steps", "steps", "warmup", "eval_every")
  assert tuple(found[name] for name in names) == steps


def test_a_difference_names_key_and_both_values_and_passes_over_what_is_free():
  old = given(seed=0, distributed=True, weak=["self"])
  new = given(seed=1, distributed=False, weak=("self",))
  old["method"] = {**old["method"], "threshold": 0.9}
  assert configuration.difference(old, new) == [
    "method.threshold: 0.9 there, 0.95 now",
    "seed: 0 there, 1 now",
  ]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b"{}"])
def test_a_config_that_cannot_be_read_is_named(tmp_path, content):
  (tmp_path / "config.json").write_bytes(content)
  with pytest.raises(UserError, match=r"config\.json: .*give the --workdir of a run"):
    configuration.read(tmp_path)


def test_a_folder_without_a_run_is_named(tmp_path):
  for folder in (tmp_path, tmp_path / "none"):
    with pytest.raises(UserError, match="no run here"):
      configuration.read(folder)
  (tmp_path / "config.json").mkdir()
  with pytest.raises(UserError, match="cannot be read"):
    configuration.read(tmp_path)


def test_a_config_that_was_written_is_read(tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({"seed": 3, "resolved": {}}))
  assert configuration.read(tmp_path)["seed"] == 3


@pytest.mark.parametrize(
  ("name", "keyword", "value", "said"),
  [
    ("fixmatch", "threshold", -3.0, "threshold=-3.0: it must be 0 to 1"),
    ("fixmatch", "threshold", 95.0, "threshold=95.0: it must be 0 to 1"),
    ("fixmatch", "threshold", math.nan, "threshold=nan: it must be 0 to 1"),
    ("fixmatch", "scale", -1.0, "scale=-1.0: it must be 0 or more"),
    ("fixmatch", "scale", math.inf, "scale=inf: it must be 0 or more"),
    ("marginmatch", "cut_off", math.nan, "cut_off=nan: it must be finite (marginm"),
    ("fixmatch", "treshold", 0.5, "no keyword 'treshold'; it has threshold, scale"),
    ("multimatch", "percentile", 5.0, "percentile=5.0: it must be 0 to 1"),
    ("marginmatch", "variant", "x", "it is one of fixed_cutoff, virtual_class"),
    ("marginmatch", "clock", "x", "clock='x': it is one of visits, epoch"),
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
def test_a_keyword_of_a_method_is_held_to_its_range(name, keyword, value, said):
  with pytest.raises(UserError, match=r"--config\.method") as error:
    methods.make({"name": name, keyword: value})
  assert said in str(error.value)


@pytest.mark.parametrize(
  ("wrapper", "method", "said"),
  [
    ({"name": "daso", "newest": 0}, "fixmatch", "newest=0: it must be 1 or more"),
    ({"name": "darp", "every": 0}, "fixmatch", "every=0: it must be 1 or more"),
    ({"name": "sow"}, "fixmatch", "there are abc, darp, daso"),
    ({"name": "darp"}, "supervised", "supervised reads no unlabelled view"),
    ({"name": "debiaspl"}, "pseudo_label", "pseudo_label reads weak"),
    ({"name": "saw"}, "vat", "vat reads weak"),
    (
      {"name": "daso"},
      "multimatch",
      "daso over multimatch: daso takes no method with several",
    ),
    ({"name": "darp"}, "multihead_cotraining", "takes no method with several voters"),
    (
      {"name": "abc"},
      "marginmatch",
      "over marginmatch: abc takes no method with virtual",
    ),
    ({"name": "saw"}, "defixmatch", "labels labelled texts, too"),
    ({"name": "darp"}, "defixmatch", "labels labelled texts, too"),
    ({"name": "daso"}, "defixmatch", "labels labelled texts, too"),
    ({"name": "debiaspl"}, "defixmatch", "labels labelled texts, too"),
    ({"name": "logit_adjustment"}, "defixmatch", "labels labelled texts, too"),
    ({"name": "logit_adjustment"}, "adamatch", "are held against the labelled texts'"),
    ({"name": "logit_adjustment"}, "dash", "are held against the labelled texts'"),
    ({"name": "logit_adjustment"}, "sequencematch", "targets of the medium view"),
    ({"name": "logit_adjustment"}, "mixmatch", "takes no method that mixes them"),
    ({"name": "logit_adjustment"}, "pi_model", "whose targets are distributions"),
    ({"name": "logit_adjustment"}, "comatch", "whose targets are distributions"),
    ({"name": "debiaspl"}, "uda", "whose targets are distributions"),
    ({"name": "debiaspl"}, "adamatch", "are held against the labelled texts'"),
    ({"name": "darp"}, "dash", "are held against the labelled texts'"),
    ({"name": "daso"}, "adamatch", "are held against the labelled texts'"),
    ({"name": "debiaspl"}, "sequencematch", "targets of the medium view"),
    ({"name": "darp"}, "sequencematch", "targets of the medium view"),
    ({"name": "darp"}, "mixmatch", "targets of the strong view"),
    ({"name": "daso"}, "mixmatch", "targets of the strong view"),
    ({"name": "debiaspl"}, "remixmatch", "takes no method that mixes them"),
    ({"name": "saw"}, "mixmatch", "takes no method that mixes them; take another"),
  ],
)
def test_a_wrapper_says_what_it_does_not_take(wrapper, method, said):
  keywords = {"variant": "virtual_class"} if method == "marginmatch" else {}
  with pytest.raises(UserError, match=r"--config\.wrapper") as error:
    wrappers.wrap(methods.make({"name": method, **keywords}), wrapper, method)
  assert said in str(error.value)


@pytest.mark.parametrize("name", wrappers.names())
def test_a_wrapper_that_goes_by_labelled_counts_says_what_it_does_of_even_ones(name):
  method = wrappers.wrap(methods.make({"name": "fixmatch"}), {"name": name})
  states = [
    method.init(Sizes(3, 6, 9, 3, 9, 10, labelled_counts=counts, width=4))
    for counts in ((2, 2, 2), (4, 1, 1))
  ]
  pairs = zip(*map(jax.tree.leaves, states), strict=True)
  same = all(np.array_equal(a, b) for a, b in pairs)
  assert bool(wrappers.of_even_classes(name)) != same


def test_a_wrapper_after_the_task_has_its_keywords_in_the_config():
  config = base.get_config("fixmatch", "response+debiaspl")
  assert config.wrapper.to_dict() == {"name": "debiaspl", "tau": 0.4, "momentum": 0.999}
  assert config.max_length == base.get_config("fixmatch", "response").max_length
  assert wrappers.complete({"name": "debiaspl", "tau": 1.0}) == {
    **config.wrapper.to_dict(),
    "tau": 1.0,
  }
  assert wrappers.complete({"name": ""}) == {"name": ""}


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_the_ends_of_a_range_belong_to_it(edge):
  methods.make({"name": "fixmatch", "threshold": edge, "scale": edge})
