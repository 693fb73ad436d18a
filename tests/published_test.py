"""--config.preset=published: the authors' value of every keyword, with its source.

A keyword that isn't in the table fails: whoever adds one looks up what the authors do.
"""

import pytest

from ssljax import methods, run_config, wrappers
from ssljax.configs import base
from ssljax.options import Published, describe, published

# From the authors' experiments on safety texts (arXiv 2512.21107 and the configs of its
# authors), or else on other texts, or else on CIFAR-10.
METHODS = {
  "supervised": {"view": "weak"},  # noisy student reads the strong one
  "pi_model": {  # github.com/s-laine/tempens, config.py; arXiv 1610.02242, algorithm 1
    "scale": 2 * 100 / 10**2,  # w_max, relative to the labelled loss; ops.agreement
    "ramp": 80 / 300,  # epochs
  },
  "mean_teacher": {  # github.com/CuriousAI/mean-teacher, cifar10_final_eval.py
    "scale": 2 * 100 / 10**2,
    "ramp": 40_000 / 150_000,  # steps
  },
  "vat": {  # arXiv 1605.07725; tensorflow/models, adversarial_text (README, flags)
    "epsilon": 5.0,
    "scale": 1.0,
    "entropy": 0.0,
    "ramp": 0.0,
  },
  "uda": {  # github.com/google-research/uda, text/scripts/run_base_uda.sh
    "threshold": 0.0,
    "temperature": 1.0,
    "scale": 1.0,
    "annealing": "linear",
  },
  "pseudo_label": {  # Lee 2013, section 3; the ramp is between epochs 100 and 600
    "threshold": 0.0,
    "scale": 3.0,
    "ramp": 0.4,  # the length of the run isn't stated: the default
  },
  "fixmatch": {"threshold": 0.95, "scale": 1.0},  # both in 2512.21107 and 2001.07685
  "flexmatch": {  # github.com/TorchSSL/TorchSSL, config/flexmatch
    "threshold": 0.95,
    "scale": 1.0,
    "warmup": True,
    "warmup_ends": 1.0,
  },
  "freematch": {  # github.com/microsoft/Semi-supervised-learning, config/usb_nlp
    "scale": 1.0,
    "fairness": 0.001,
    "momentum": 0.999,
    "time_constant": 0.0,
  },
  "softmatch": {  # the same; issue 89 on which code gave the results on text
    "scale": 1.0,
    "momentum": 0.999,
    "time_constant": 0.0,
    "deviations": 2.0,
    "moments": "after",
  },
  "dash": {  # github.com/idstcv/Dash, start_train.sh; arXiv 2109.00650 (c)
    "gamma": 1.27,
    "c": 1.0001,
    "least": 0.05,
    "temperature": 0.5,
    "scale": 1.0,
    "warmup": 10 / 1024,  # epochs
    "cuts": round((1024 - 10) / 9),
  },
  "adamatch": {  # github.com/google-research/adamatch, semi_supervised/adamatch.py
    "threshold": 0.9,
    "scale": 1.0,
    "momentum": 0.999,
    "time_constant": 0.0,
    "window": 128,
    "interpolation": True,
  },
  "defixmatch": {"threshold": 0.95, "scale": 0.5},  # github.com/HugoSchmutz/DeFixmatch
  "refixmatch": {  # github.com/beandkay/SequenceMatch, config/refixmatch
    "threshold": 0.95,
    "temperature": 0.5,
    "scale": 1.0,
  },
  "sequencematch": {  # the same repository, config/sequencematch and uda_utils.py
    "threshold": 0.95,
    "temperature": 0.5,
    "scale": 1.0,
    "warmup": True,
    "warmup_ends": 1.0,
    "masks": "pairs",
  },
  "marginmatch": {  # 2512.21107; github.com/tsosea2/MarginMatch for its virtual class
    "variant": "fixed_cutoff",
    "threshold": 0.95,
    "cut_off": 0.0,
    "smoothness": 0.997,
    "percentile": 0.95,
    "scale": 1.0,
    "warmup_ends": 1.0,
    "declare": "after_warmup",
    "clock": "epoch",
  },
  "multimatch": {  # 2512.21107; on topics, its authors have scale 3 and no_low
    "scale": 1.0,
    "smoothness": 0.997,
    "percentile": 0.05,
    "difficult_weight": 3.0,
    "no_low": False,
    "momentum": 0.999,
    "time_constant": 0.0,
    "start": 1.0,
    "clock": "epoch",
  },
  "jointmatch": {  # github.com/HenryPengZou/JointMatch, code/panel_main.py (AG News)
    "threshold": 0.98,
    "scale": 1.0,
    "disagreement": 0.9,
    "momentum": 0.9,
    "time_constant": 0.0,
  },
  "multihead_cotraining": {  # github.com/chenmc1996/Multi-Head-Co-Training
    "threshold": 0.0,
    "scale": 3.0,  # the sum over three heads; ours is the mean
  },
  "mixmatch": {  # github.com/google-research/mixmatch, runs/table*.sh
    "mix": "pooled",  # images are mixed as inputs: the default
    "alpha": 0.75,
    "temperature": 0.5,
    "scale": 2 * 75 / 10**2,
    "ramp": 1024 / 2**16,  # thousands of images
  },
  "remixmatch": {  # github.com/google-research/remixmatch, remixmatch_no_cta.py
    "mix": "pooled",
    "alpha": 0.75,
    "temperature": 0.5,
    "scale": 1.5,
    "anchor": 0.5,
    "window": 128,
    "ramp": 1024 / 2**16,
  },
  "comatch": {  # github.com/salesforce/CoMatch, Train_CoMatch.py
    "threshold": 0.95,
    "temperature": 0.2,
    "scale": 1.0,
    "contrast": 1.0,
    "smoothing": 0.9,
    "agreement": 0.8,
    "width": 64,
    "window": 32,
    "batches": 5,
    "start": 1.0,
  },
  "simmatch": {  # arXiv 2203.06915, section 4.1; the window: their code for ImageNet
    "threshold": 0.95,
    "temperature": 0.1,
    "scale": 1.0,
    "instances": 1.0,
    "smoothing": 0.9,
    "momentum": 0.7,
    "width": 128,
    "window": 256,
    "start": 1.0,
  },
  "crmatch": {  # arXiv 2112.05825; WRN-28-2 has features of this width
    "threshold": 0.95,
    "scale": 1.0,
    "distance": 1.0,
    "width": 128,
  },
}
WRAPPERS = {
  "abc": {"scale": 1.0, "threshold": 0.95},  # github.com/LeeHyuck/ABC, ABCfix.py
  "logit_adjustment": {"tau": 1.0},  # arXiv 2007.07314, section 5
  "debiaspl": {  # github.com/frank-xwang/debiased-pseudo-labeling, scripts/1perc-ssl
    "tau": 0.4,
    "momentum": 0.999,
    "time_constant": 0.0,
  },
  "saw": {  # github.com/ZJUJeffLai/SAW_SSL, classWeights.py and jeff_remix_0.sh
    "beta": 0.999,  # without effect
    "by_count": True,
    "start": 1.0,
  },
  "darp": {  # github.com/bbuing9/DARP, run.sh and arguments.py
    "warmup": 200 / 500,  # epochs
    "every": 10,
    "alpha": 2.0,
  },
  "daso": {  # github.com/ytaek-oh/daso, configs/cifar10 and lib/config/defaults.py
    "scale": 1.0,
    "temperature": 0.05,
    "distribution": 1.5,  # for the same class frequencies in both sets
    "warmup": 5_000 / 250_000,  # steps
    "newest": 256,
    "momentum": 0.99,  # their frequencies cover the last 100 steps
    "time_constant": 0.0,
  },
}
TABLE = [(methods, name, values) for name, values in METHODS.items()]
TABLE += [(wrappers, name, values) for name, values in WRAPPERS.items()]


def test_the_table_has_every_method_and_wrapper():
  assert sorted(METHODS) == methods.names()
  assert sorted(WRAPPERS) == wrappers.names()


@pytest.mark.parametrize(
  ("package", "name", "values"), TABLE, ids=[name for _, name, _ in TABLE]
)
def test_every_keyword_gets_the_value_of_the_authors(package, name, values):
  assert package.complete({"name": name}, "published") == {"name": name} | values


@pytest.mark.parametrize("task", ["prompt", "response"])
@pytest.mark.parametrize(
  ("package", "name", "values"), TABLE, ids=[name for _, name, _ in TABLE]
)
def test_so_does_a_config_with_all_defaults_of_either_task(package, name, values, task):
  if package is methods:
    config = base.get_config(name, task).method
  else:
    config = base.get_config("fixmatch", f"{task}+{name}").wrapper
  complete = package.complete(config.to_dict(), "published")
  assert complete == {"name": name} | values


@pytest.mark.parametrize(
  ("package", "name", "values"), TABLE, ids=[name for _, name, _ in TABLE]
)
def test_the_values_are_accepted(package, name, values):
  if package is methods:
    methods.make({"name": name} | values)
  else:
    wrappers.wrap(methods.make({"name": "fixmatch"}), {"name": name} | values)


def test_without_the_preset_nothing_changes():
  for package, name, _ in TABLE:
    defaults = {"name": name} | package.defaults(name)
    assert package.complete({"name": name}) == defaults
    assert package.complete(defaults) == defaults


def test_a_keyword_that_is_set_wins():
  config = {"name": "adamatch", "threshold": 0.8}
  assert methods.complete(config, "published")["threshold"] == 0.8
  full = {"name": "adamatch"} | methods.defaults("adamatch") | {"threshold": 0.8}
  complete = methods.complete(full, "published")
  assert (complete["threshold"], complete["time_constant"]) == (0.8, 0.0)


def test_so_does_one_that_is_set_to_its_default_if_others_are_left_out():
  """With all keywords, as in a ConfigDict, it can't be told from one that isn't set."""
  default = methods.defaults("adamatch")["threshold"]
  some = {"name": "adamatch", "threshold": default}
  assert methods.complete(some, "published")["threshold"] == default
  full = {"name": "adamatch"} | methods.defaults("adamatch")
  assert methods.complete(full, "published")["threshold"] == 0.9


def test_the_paper_on_the_virtual_class_counts_visits():
  config = {"name": "marginmatch", "variant": "virtual_class"}
  complete = methods.complete(config, "published")
  assert (complete["variant"], complete["clock"]) == ("virtual_class", "visits")
  full = {**config, **methods.defaults("marginmatch"), "variant": "virtual_class"}
  assert methods.complete(full, "published") == complete


def test_no_wrapper_stays_none():
  assert wrappers.complete({"name": ""}, "published") == {"name": ""}


def test_a_value_may_depend_on_another_keyword():
  from typing import Annotated

  def make(
    kind: str = "a",
    size: Annotated[int, Published(3, only={"kind": "a"})] = 1,
    other: Annotated[str, Published("b")] = "c",
  ):
    return kind, size, other

  described = describe(make)
  assert published(described, {}) == {"kind": "a", "size": 3, "other": "b"}
  assert published(described, {"kind": "z"})["size"] == 1
  assert published(described, {"kind": "z", "size": 9})["size"] == 9


def test_a_run_says_what_the_preset_sets():
  config = {"preset": "published", "wrapper": {"name": ""}}
  given = methods.defaults("multimatch") | {"name": "multimatch"}
  said = run_config.preset_values({**config, "method": given})
  assert said.startswith("preset=published: method.")
  assert "method.time_constant=0.0, " in said
  assert "threshold" not in said  # the default is the authors' value
  assert run_config.preset_values({**config, "method": given, "preset": ""}) == ""
