"""The command line of training: choosing a method by a flag, listing keys, commands."""

import os
import re
import subprocess
import sys

import pytest
from absl import flags

from ssljax import cli, methods
from ssljax.configs import base
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
def parse(monkeypatch):
  """The config that flags make of fixmatch."""

  def parse(*words):
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    flags.DEFINE_string("config", None, "", flags.FLAGS)
    assert cli._parse(["main", "--config=fixmatch", *words], "", base.choose) == [
      "main"
    ]
    return flags.FLAGS.config

  return parse


def test_a_method_chosen_by_a_flag_brings_its_own_keywords(parse):
  config = parse("--config.method.scale=2", "--config.method.name=uda")
  defaults = methods.defaults("uda")
  assert config.method.to_dict() == {"name": "uda", **defaults, "scale": 2.0}
  assert config.name == "fixmatch"


def test_the_name_of_the_configs_own_method_keeps_its_keywords(parse):
  config = parse("--config.method.name=fixmatch", "-config.method.scale", "2")
  assert config.method.to_dict() == {
    "name": "fixmatch",
    "threshold": 0.95,
    "scale": 2.0,
  }


@pytest.mark.parametrize("value", ["a,llm-2", "a, llm-2", "('a', 'llm-2')", "a,2x"])
def test_names_separated_by_commas_are_several(parse, value):
  names = ("a", "2x") if value == "a,2x" else ("a", "llm-2")
  assert parse(f"--config.strong={value}").strong == names
  assert parse("--config.strong=a").strong == ("a",)
  assert parse("--config.strong=('a,b',)").strong == ("a,b",)


def test_a_wrapper_chosen_by_a_flag_leaves_the_method_alone(parse):
  config = parse("--config.wrapper.name=abc", "--config.method.threshold=0.9")
  assert config.wrapper.name == "abc"
  assert config.method.threshold == 0.9
  assert not parse("--config.wrapper.name=").wrapper.name


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--config.method.scale=x", "--config.method.scale=x: could not convert"),
    ("--config.method.name=nothing", "unknown method 'nothing'"),
    ("--config.method.threshold=0.9", "--config.method.threshold; there are"),
    ("--config.method=uda", "set --config.method.name=uda"),
    ("--config.wrapper.tau=1", "first set --config.wrapper.name"),
    ("--config.labels.most=1", "--config.labels=200 has no keys"),
    ("--config=uda", "--config is given twice: fixmatch, uda"),
  ],
)
def test_a_flag_that_does_not_fit_is_named(parse, capsys, flag, message):
  with pytest.raises(SystemExit):
    parse("--config.method.name=vat", flag)
  assert message in capsys.readouterr().err


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


@pytest.mark.slow
def test_the_console_script_trains_a_method_of_another_package(place):
  arguments = ["--config=fixmatch", *runs.arguments(place, "fixmatch", place / "w")[1:]]
  arguments += ["--config.method.name=my_package.my_method", "--config.dry_run=true"]
  done = console(place, "train", *arguments, "--config.method.keep=false")
  assert done.returncode == 0, done.stderr
  assert "my_package.my_method: 16 labelled" in done.stdout
  done = console(place, "train", *arguments, "--config.method.levle=0.5")
  assert done.returncode == 2
  assert "did you mean 'level'?" in done.stderr


def test_a_key_without_a_config_asks_for_one(place):
  done = console(place, "train", "--config.steps=3")
  assert done.returncode == 2
  assert done.stderr == "error: --config.steps=3 needs a config; add --config=NAME\n"


def test_an_unknown_key_of_an_augmentation_config_is_named(place):
  done = console(place, "augment", "--config=eda", "--config.treshold=1")
  assert done.returncode == 2
  assert done.stderr == (
    "error: unknown config key --config.treshold; did you mean 'threshold'?\n"
  )


def test_the_keys_are_listed_with_the_values_of_the_config(place):
  done = console(place, "augment", "--config=adversarial", "--list_keys")
  assert re.search(r"--config.least_ratio=0.0 ", done.stdout)
  assert re.search(r"--config.kind=adversarial ", done.stdout)
  changes = ["--config.steps=7", "--config.method.threshold=0.5"]
  done = console(place, "train", "--config=fixmatch:response", "--list_keys", *changes)
  for text in ("max_length=1024 ", "steps=7 ", "method.threshold=0.5 "):
    assert f"--config.{text}" in done.stdout


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


PROGRAM = """
from absl import flags
from ssljax import cli
from ssljax.errors import UserError

def main():
  print("begun")
  if flags.FLAGS.fails:
    raise UserError("a mistake")

flags.DEFINE_bool("fails", False, "")
cli.run(main)
"""


@pytest.mark.parametrize(
  ("program", "code", "line"),
  [
    (("-c", PROGRAM, "--fails"), 2, "error: a mistake"),
    (
      ("-c", PROGRAM, "--nofails"),
      1,
      "error: .* cannot be written .* free some space .*",
    ),
    (("-c", PROGRAM, "--help"), 1, "error: .* cannot be written .* free some space .*"),
    (("-m", "ssljax"), 1, "error: .* cannot be written .* free some space .*"),
  ],
)
def test_a_full_standard_output_is_one_line(program, code, line):
  environment = {**os.environ}
  environment.pop("PYTHONUNBUFFERED", None)  # Python writes when it ends
  with open("/dev/full", "w") as full:
    done = subprocess.run(
      [sys.executable, *program],
      env=environment,
      stdout=full,
      stderr=subprocess.PIPE,
      text=True,
    )
  assert re.fullmatch(f"{line}\n", done.stderr)
  assert done.returncode == code
