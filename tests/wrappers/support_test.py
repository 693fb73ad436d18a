"""Which methods a wrapper supports, and what it says otherwise."""

import jax
import numpy as np
import pytest

from ssljax import methods, wrappers
from ssljax.configs import base
from ssljax.errors import UserError
from ssljax.method import Sizes

VIEWS = "needs a method that computes targets from a weak view"
VOTERS = "methods with several voters or networks, or virtual classes"
VIRTUAL = "methods with virtual classes"
CONTROL = "methods that compute targets for labelled texts as well"
RELATIVE = "methods whose targets depend on predictions for labelled texts"
MEDIUM = "methods with targets from the medium view"
STRONG = "methods with targets from the strong view"
MIXING = "methods that mix texts; choose another wrapper"
SOFT = "methods whose targets are distributions"


@pytest.mark.parametrize(
  ("wrapper", "method", "reason"),
  [
    ("darp", "supervised", f"{VIEWS}.*supervised reads no unlabelled view"),
    ("debiaspl", "pseudo_label", f"{VIEWS}.*pseudo_label reads weak"),
    ("saw", "vat", f"{VIEWS}.*vat reads weak"),
    ("daso", "multimatch", f"daso can't wrap multimatch: .*{VOTERS}"),
    ("darp", "multihead_cotraining", VOTERS),
    ("daso", "jointmatch", VOTERS),
    ("abc", "marginmatch", VIRTUAL),
    ("saw", "defixmatch", CONTROL),
    ("darp", "defixmatch", CONTROL),
    ("daso", "defixmatch", CONTROL),
    ("debiaspl", "defixmatch", CONTROL),
    ("logit_adjustment", "defixmatch", CONTROL),
    ("logit_adjustment", "adamatch", RELATIVE),
    ("logit_adjustment", "dash", RELATIVE),
    ("debiaspl", "adamatch", RELATIVE),
    ("darp", "dash", RELATIVE),
    ("daso", "adamatch", RELATIVE),
    ("logit_adjustment", "sequencematch", MEDIUM),
    ("debiaspl", "sequencematch", MEDIUM),
    ("darp", "sequencematch", MEDIUM),
    ("darp", "mixmatch", STRONG),
    ("daso", "mixmatch", STRONG),
    ("logit_adjustment", "mixmatch", MIXING),
    ("debiaspl", "remixmatch", MIXING),
    ("saw", "mixmatch", MIXING),
    ("logit_adjustment", "pi_model", SOFT),
    ("logit_adjustment", "comatch", SOFT),
    ("debiaspl", "uda", SOFT),
  ],
)
def test_a_wrapper_refuses_methods_that_it_does_not_support(wrapper, method, reason):
  keywords = {"variant": "virtual_class"} if method == "marginmatch" else {}
  with pytest.raises(UserError, match=reason) as error:
    wrappers.wrap(methods.make({"name": method, **keywords}), {"name": wrapper}, method)
  assert f"--config.wrapper.name={wrapper}" in str(error.value)


@pytest.mark.parametrize(
  ("config", "message"),
  [
    ({"name": "daso", "newest": 0}, "newest=0: it must be 1 or more"),
    ({"name": "darp", "every": 0}, "every=0: it must be 1 or more"),
    ({"name": "sow"}, "did you mean 'saw'?"),
  ],
)
def test_a_wrapper_checks_its_keywords(config, message):
  with pytest.raises(UserError, match=message):
    wrappers.wrap(methods.make({"name": "fixmatch"}), config, "fixmatch")


@pytest.mark.parametrize("name", wrappers.names())
def test_a_wrapper_says_so_if_balanced_labels_leave_it_nothing_to_do(name):
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
  assert config.wrapper.to_dict() == {
    "name": "debiaspl",
    "tau": 0.4,
    "momentum": 0.999,
    "time_constant": 0.05,
  }
  assert config.max_length == base.get_config("fixmatch", "response").max_length
  assert wrappers.complete({"name": "debiaspl", "tau": 1.0}) == {
    **config.wrapper.to_dict(),
    "tau": 1.0,
  }
  assert wrappers.complete({"name": ""}) == {"name": ""}
