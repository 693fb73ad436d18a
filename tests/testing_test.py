"""The checks for methods, on a method outside the package and on broken ones."""

import importlib
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from ssljax import methods, testing, wrappers
from ssljax.errors import UserError
from ssljax.method import Assignment, Needs, Rule, consistency, stateless
from ssljax.methods import fixmatch
from ssljax.testing import checks
from ssljax.testing.tiny import TinyRun
from tests import tiny

PAGE = Path(__file__).parent.parent / "docs" / "adding-a-method.md"
MODULE = "my_package.confidence_weighted"


@pytest.fixture
def outside(tmp_path, monkeypatch):
  """Writes the files of docs/adding-a-method.md; gives their folder."""
  blocks = re.findall(
    r"^`(\S+\.py)`:\n\n```python\n(.*?)```", PAGE.read_text(), re.M | re.S
  )
  for path, code in blocks:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(code)
  monkeypatch.syspath_prepend(tmp_path)
  yield tmp_path
  for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
    del sys.modules[name]


def execute(path: Path) -> dict:
  names: dict = {}
  exec(compile(path.read_text(), path, "exec"), names)
  return names


@pytest.mark.slow
def test_the_method_of_the_docs_works_outside_the_package(outside):
  config = execute(outside / "configs/my_config.py")["get_config"]().to_dict()
  assert config["method"] == {"name": MODULE, "scale": 1.0, "power": 2.0}
  assert methods.make(config["method"]).needs == Needs()
  with pytest.raises(UserError, match=f"method {MODULE} has no keyword 'pover'"):
    methods.make({"name": MODULE, "pover": 1.0})
  with pytest.raises(UserError, match=r"power=-1.0: it must be 0 or more"):
    methods.make({"name": MODULE, "power": -1.0})
  golden = execute(outside / "tests/golden/confidence_weighted_test.py")
  golden["test_equals_the_equation"]()
  test = execute(outside / "tests/confidence_weighted_test.py")
  test["test_confidence_weighted"]()
  jax.clear_caches()


def test_a_wrapper_may_be_outside_the_package(outside):
  (outside / "my_package/identity.py").write_text("make = lambda method: method\n")
  method = methods.make({"name": "fixmatch"})
  assert wrappers.wrap(method, {"name": "my_package.identity"}) is method


@pytest.mark.parametrize(
  ("code", "message"),
  [
    (None, "cannot import it .ModuleNotFoundError"),
    ("import no_such_module", "cannot import it .ModuleNotFoundError"),
    ("def make(:", "cannot import it .SyntaxError"),
    ("1 / 0", "cannot import it .ZeroDivisionError"),
    ("raise SystemExit(1)", "cannot import it .SystemExit"),
    ("made = 1", "defines no function make"),
    ("def make(): return 1", "`make` returned int"),
  ],
)
def test_a_broken_module_is_one_line(outside, code, message):
  if code is not None:
    (outside / "my_package/broken.py").write_text(code)
    importlib.invalidate_caches()
  with pytest.raises(UserError, match=message) as error:
    methods.make({"name": "my_package.broken"})
  assert str(error.value).startswith("--config.method.name=my_package.broken: ")
  assert "\n" not in str(error.value)


def rule(init=stateless, weight=lambda q, state, clock, index: q.max(-1)):
  """A method with one property changed; by default it passes all checks."""

  def assign(state, evidence, clock):
    q = jax.nn.softmax(evidence.logits)
    target = jax.nn.one_hot(q.argmax(-1), q.shape[-1], dtype=jnp.float32)
    return Assignment(target, weight(q, state, clock, evidence.index)), state

  return consistency(Rule(init, assign))


def leaking(forward, batch, state, clock):
  """FixMatch's loss, but the reported target has a gradient."""
  terms, state, assigned = fixmatch.make(threshold=0.0).loss(
    forward, batch, state, clock
  )
  weak = forward(batch.unlabelled.views["weak"], key=clock.key)
  return terms, state, assigned._replace(target=jax.nn.softmax(weak.logits))


def by_position(q, state, clock, index):
  return jax.random.uniform(clock.key, q.shape[:1])


@pytest.mark.slow
@pytest.mark.parametrize(
  ("method", "check", "message"),
  [
    (
      rule(init=lambda sizes: jnp.asarray(1.0)),
      checks.state_keeps_its_structure,
      "weakly typed",
    ),
    (rule(weight=by_position), checks.row_order_is_ignored, "Not equal to tolerance"),
    (
      rule(weight=lambda q, *_: jnp.zeros(q.shape[:1])),
      checks.unlabelled_texts_are_used,
      "is a threshold too high",
    ),
    (fixmatch.make()._replace(loss=leaking), checks.targets_are_sound, "stop_gradient"),
    (
      rule(weight=lambda q, *_: -q.max(-1)),
      checks.targets_are_sound,
      "some weights are negative",
    ),
    (
      tiny.method("multimatch")._replace(
        needs=Needs(heads=tiny.method("multimatch").needs.heads)
      ),
      checks.predict_reads_the_head_it_declares,
      "predict .* but Needs.predicts is 'classifier'",
    ),
  ],
)
def test_a_check_fails_for_a_method_that_breaks_it(method, check, message):
  with pytest.raises(AssertionError, match=message):
    check(TinyRun(method))


def test_check_method_needs_eight_devices(monkeypatch):
  monkeypatch.setattr(jax, "device_count", lambda: 1)
  with pytest.raises(RuntimeError, match="xla_force_host_platform_device_count=8"):
    testing.check_method(fixmatch.make)
