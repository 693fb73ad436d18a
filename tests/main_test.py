"""The command line of training: choosing a method by a flag, listing keys, commands."""

import subprocess
import sys

import pytest

from ssljax import main
from ssljax.errors import UserError
from tests import runs

METHOD = """
import jax
from ssljax.method import Assignment, Rule, consistency, stateless
from ssljax.options import Share


def make(level: Share = 0.9, keep: bool = True):
  def assign(state, evidence, clock):
    q = jax.nn.softmax(evidence.logits)
    return Assignment(q, q.max(-1) * level), state

  return consistency(Rule(stateless, assign))
"""


@pytest.fixture
def chosen(monkeypatch):
  """The modules that flags choose."""

  def parse(*words, **config):
    monkeypatch.setattr(main, "_MODULE_FLAGS", {})
    rest = main.take_module_flags(["main", *words])
    return rest[1:], main._chosen_modules(config)

  return parse


def test_a_method_chosen_by_a_flag_brings_its_own_keywords(chosen):
  words = ("--config.steps=3", "--config.method.name=vat", "--config.method.scale=2")
  rest, modules = chosen(*words)
  assert rest == ["--config.steps=3"]
  assert modules["method"]["name"] == "vat"
  assert modules["method"]["scale"] == 2.0
  assert "threshold" not in modules["method"]


def test_the_name_of_the_configs_own_method_keeps_its_keywords(chosen):
  words = ("--config.method.name=fixmatch", "--config.method.scale=2")
  _, modules = chosen(*words, method={"name": "fixmatch", "threshold": 0.7})
  assert modules["method"] == {"name": "fixmatch", "threshold": 0.7, "scale": 2.0}


def test_keywords_of_the_configs_method_stay_flags_of_the_config(chosen):
  words = ["--config.method.threshold=0.9", "--config.wrapper.name=abc"]
  rest, modules = chosen(*words)
  assert rest == words[:1]
  assert set(modules) == {"wrapper"}


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--config.method.scale=x", r"--config\.method\.scale=x: it must be a number"),
    ("--config.method.name=nothing", "unknown method 'nothing'"),
  ],
)
def test_mistakes_in_such_flags_are_named(chosen, flag, message):
  with pytest.raises(UserError, match=message):
    chosen("--config.method.name=vat", flag)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  folder = runs.folder(tmp_path_factory.mktemp("main"))
  (folder / "my_package").mkdir()
  (folder / "my_package" / "my_method.py").write_text(METHOD)
  return folder


def console(place, *arguments):
  """Runs the console script from a folder that is not the checkout."""
  return subprocess.run(
    [sys.executable, "-m", "ssljax", *arguments],
    cwd=place,
    env=runs.environment(place),
    capture_output=True,
    text=True,
  )


def test_the_console_script_trains_a_method_of_another_package(place):
  arguments = ["--config=fixmatch", *runs.arguments(place, "fixmatch", place / "w")[1:]]
  arguments += ["--config.method.name=my_package.my_method", "--config.dry_run=true"]
  done = console(place, "train", *arguments, "--config.method.keep=false")
  assert done.returncode == 0, done.stderr
  assert "my_package.my_method: 16 labelled" in done.stdout
  done = console(place, "train", *arguments, "--config.method.levle=0.5")
  assert done.returncode == 2
  assert "did you mean 'level'?" in done.stderr


def test_the_console_script_lists_its_commands_and_names_the_nearest(place):
  done = console(place)
  assert done.returncode == 0
  assert all(name in done.stdout for name in ("prepare", "train", "predict"))
  done = console(place, "trian")
  assert done.returncode == 2
  assert done.stderr == "error: no command 'trian'; did you mean 'train'?\n"


def test_keys_are_listed_with_those_of_the_method(place):
  done = console(place, "train", "--config=uda:prompt+abc", "--list_keys")
  assert done.returncode == 0, done.stderr
  assert "--config.labels=200" in done.stdout
  assert "--config.method.temperature=" in done.stdout
  assert "--config.wrapper.threshold=" in done.stdout
