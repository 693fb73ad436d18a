"""Runs a program with absl flags; a user's mistake is one line and exit code 2."""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
from absl import app, flags, logging

from ssljax import config_files, options
from ssljax.errors import CUT_OFF, INTERRUPTED, MISTAKE, UserError


def run(
  main: Callable[..., int | None], positional: bool = False, configs: str = ""
) -> None:
  """Parses the flags, runs `main()` and exits with what it returns (None is 0).

  Args:
    main: the program; with `positional` it gets the arguments that are not flags.
    positional: accept such arguments.
    configs: the kind of config that --config names, see `config_files.folder`.
  """
  _quiet()
  app.run(
    lambda argv: guarded(main, argv, positional),
    flags_parser=lambda argv: _parse(argv, configs),
  )


def guarded(
  main: Callable[..., int | None], argv: Sequence[str], positional: bool = False
) -> int | None:
  """Returns what `main()` returns; a user's mistake ends in one line and its code."""
  if len(argv) > 1 and not positional:
    _stop(f"unexpected argument {argv[1]!r}: flags are written --name=value")
  try:
    return main(list(argv[1:])) if positional else main()
  except UserError as error:
    _stop(str(error), error.code)
  except PermissionError as error:
    if error.filename is None:
      raise
    _stop(f"{error.filename}: {error.strerror}; change its permissions or use another")
  except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(CUT_OFF)
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(INTERRUPTED)


def _parse(argv: Sequence[str], configs: str) -> list[str]:
  words = normalized(argv[1:])
  sources = [word for word in words if word.startswith("--config=")]
  rest = [word for word in words if word not in sources]
  for word in rest:
    for key in ("method", "wrapper"):
      if word.startswith(f"--config.{key}="):
        _stop(f"{word}: set --config.{key}.name={word.partition('=')[2]}")
  if len(sources) > 1:
    _stop(f"--config is given {len(sources)} times: {' '.join(sources)}; give it once")
  with contextlib.ExitStack() as stack:
    if sources:
      try:
        path, argument = config_files.find(sources[0].partition("=")[2], configs)
        config_files.load(path, argument)  # its mistakes become one line
      except UserError as error:
        _stop(str(error))
      # The config comes first: its keys are known once it is loaded.
      rest.insert(0, f"--config={path}" + (f":{argument}" if argument else ""))
      stack.enter_context(config_files.importing_neighbours(path))
    sys.argv = [argv[0], *rest]  # ml_collections reads sys.argv as well
    return _parse_flags(sys.argv)


def _parse_flags(argv: list[str]) -> list[str]:
  try:
    rest = flags.FLAGS(argv)
    if "config" in flags.FLAGS and flags.FLAGS.config is not None:
      flags.FLAGS.config.keys()  # only this loads the config
    return rest
  except flags.Error as error:
    _stop(f"{error} (--help lists the flags)")
  except (AttributeError, KeyError):
    _stop(_unknown_key(argv))
  except (TypeError, ValueError) as error:
    _stop(f"bad config value: {error}")


def normalized(words: Sequence[str]) -> list[str]:
  """The words with every `-config.key value` written as `--config.key=value`."""
  normalized, rest = [], list(words)
  while rest:
    word = rest.pop(0)
    name = word.lstrip("-").partition("=")[0]
    if word[:1] == "-" and (name == "config" or name.startswith("config.")):
      word = f"--{word.lstrip('-')}"
      if "=" not in word and rest and rest[0][:1] != "-":
        word = f"{word}={rest.pop(0)}"
    normalized.append(word)
  return normalized


def _unknown_key(argv: Sequence[str]) -> str:
  """The message for a flag --config.KEY whose key the config does not have."""
  # The config without any changed key; ml_collections reads sys.argv as well.
  sys.argv = [w for w in argv if not w.startswith(("--config.", "-config."))]
  flags.FLAGS(sys.argv)
  for word in argv:
    name = word.lstrip("-").partition("=")[0]
    if not name.startswith("config."):
      continue
    keys, place = flags.FLAGS.config, "--config"
    for key in name.split(".")[1:]:
      known = list(keys.keys()) if isinstance(keys, ml_collections.ConfigDict) else []
      if key not in known:
        return f"unknown config key --{name}{_hint(place, key, known, keys)}"
      keys, place = keys[key], f"{place}.{key}"
  return "unknown config key (--list_keys lists them)"


def _hint(place: str, key: str, known: Sequence[str], keys: Any) -> str:
  if not known:
    return f"; {place} is a value and has no keys"
  names = [name for name in known if name != "name"]
  if place == "--config.wrapper" and not keys["name"]:
    return "; a wrapper and its keywords are chosen by --config=METHOD:prompt+WRAPPER"
  if place in ("--config.method", "--config.wrapper") and not names:
    return f"; {keys['name']} has no keywords"
  return options.nearest(key, names)


def _stop(message: str, code: int = MISTAKE) -> None:
  print("error: " + " ".join(message.split()), file=sys.stderr)
  sys.exit(code)


def _quiet() -> None:
  """Hides the advice and the warnings of libraries."""
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
  os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
  os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
  logging.set_verbosity(logging.ERROR)
  if not sys.warnoptions:
    warnings.simplefilter("ignore")
