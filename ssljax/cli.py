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
  # The keys of a config are known once it is loaded, so it comes first. ml_collections
  # reads sys.argv as well.
  words = [argv[0], *sorted(_joined(argv[1:]), key=lambda word: not _is_config(word))]
  with contextlib.ExitStack() as stack:
    if len(words) > 1 and _is_config(words[1]):
      try:
        path, argument = config_files.find(words[1].partition("=")[2], configs)
      except UserError as error:
        _stop(str(error))
      words[1] = f"--config={path}" + (f":{argument}" if argument else "")
      stack.enter_context(config_files.importing_neighbours(path))
    sys.argv = words
    return _parse_flags(words)


def _parse_flags(argv: list[str]) -> list[str]:
  values = flags.FLAGS
  try:
    rest = values(argv)
    if "config" in values and getattr(values, "config", None) is not None:
      values.config.keys()  # only this raises the error of a config file
    return rest
  except (flags.Error, UserError) as error:
    message = str(error)
    if "Traceback" in message:  # ml_collections quotes that of a config file
      message = f"cannot load the config: {message.strip().splitlines()[-1]}"
    elif not isinstance(error, UserError):
      message = f"{message} (--help lists the flags)"
    _stop(message)
  except (AttributeError, KeyError):
    _stop(_unknown_key(argv))
  except (ImportError, SyntaxError) as error:
    _stop(f"cannot load the config: {type(error).__name__}: {error}")
  except (TypeError, ValueError) as error:
    _stop(f"bad config value: {error}")


def _joined(words: Sequence[str]) -> list[str]:
  """`--config NAME` as one word."""
  joined = list(words)
  for i, word in enumerate(words[:-1]):
    if word in ("--config", "-config"):
      joined[i : i + 2] = [f"--config={words[i + 1]}"]
      break
  return joined


def _is_config(word: str) -> bool:
  return word.startswith(("--config=", "-config="))


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
