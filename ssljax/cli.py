"""Runs a program with absl flags; a user's mistake prints one line and exits with 2."""

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TextIO

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from ssljax import config_files
from ssljax.config import MODULES
from ssljax.errors import CUT_OFF, FINISHED, INTERRUPTED, MISTAKE, RunError, UserError
from ssljax.runtime.atomic import FULL, cannot_write

# (config, key, name): sets config[key] to the name, with its keywords.
Choose = Callable[[ml_collections.ConfigDict, str, str], None]


def run(
  main: Callable[..., int | None],
  positional: bool = False,
  configs: str = "",
  choose: Choose | None = None,
) -> None:
  """Parses the flags, runs `main` and exits with the code that it returns.

  Args:
    main: the program; None as its return value means 0.
    positional: pass the arguments that aren't flags to `main`, as a list.
    configs: the kind of config that --config names; see `config_files.folder`.
    choose: called for each flag --config.KEY.name=NAME, because NAME determines which
      flags --config.KEY.KEYWORD exist.
  """
  _quiet()
  app.run(
    lambda argv: guarded(main, argv, positional),
    flags_parser=lambda argv: _parse(argv, configs, choose),
  )


def guarded(
  main: Callable[..., int | None], argv: Sequence[str], positional: bool = False
) -> int | None:
  """Runs `main` and returns its result; after a user's mistake, prints it and exits."""
  with _explained():
    if len(argv) > 1 and not positional:
      raise UserError(
        f"unexpected argument {argv[1]!r}: flags are written --name=value"
      )
    return main(list(argv[1:])) if positional else main()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
  """Ends a block that fails with one line and an exit code, if the reason is known."""
  try:
    try:
      yield
    except SystemExit:
      print(end="", flush=True)
      raise
    print(end="", flush=True)  # fails here, and not when Python ends
  except UserError as error:
    _stop(str(error), error.code)
  except PermissionError as error:
    if error.filename is None:
      raise
    _stop(
      f"{error.filename}: {error.strerror}; change its permissions or use another path"
    )
  except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
    _discard(sys.stdout)
    sys.exit(CUT_OFF)
  except OSError as error:
    if error.errno not in FULL:
      raise
    where = error.filename or "a file or the standard output"
    way_out = "use another place, and run the command again"
    _stop(str(cannot_write(where, error, way_out)), RunError.code)
  except KeyboardInterrupt:
    _exit("interrupted", INTERRUPTED)


@_explained()
def _parse(argv: Sequence[str], configs: str, choose: Choose | None) -> list[str]:
  """Parses the flags; sets FLAGS.config to the config, with the flags' values."""
  try:
    words = flags.FLAGS.read_flags_from_files(normalized(argv[1:]), force_gnu=False)
    sources = [w.removeprefix("--config=") for w in words if w.startswith("--config=")]
    keys = [word for word in words if re.match(r"--(no)?config\.", word)]
    if not sources:
      if keys and "config" in flags.FLAGS:
        raise UserError(f"{keys[0]} needs a config; add --config=NAME")
      return _parse_flags([argv[0], *words])
    if len(sources) > 1:
      raise UserError(f"--config is given twice: {', '.join(sources)}; give it once")
    rest = _parse_flags([argv[0], *(word for word in words if word not in keys)])
    config = config_files.load(*config_files.find(sources[0], configs))
    flags.FLAGS.config = with_flags(config, keys, choose)
    return rest
  except (flags.Error, TypeError, ValueError) as error:
    listing = "--help lists the flags"
    if "list_keys" in flags.FLAGS:
      listing += ", --list_keys the keys of the config"
    raise UserError(f"{error} ({listing})") from error


def _parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses flags; refuses a list that is given twice, as only the last would count."""
  known = flags.FLAGS
  lists = [name for name in known if isinstance(known[name].parser, flags.ListParser)]
  before = {name: known[name].present for name in lists}
  try:
    rest = known(argv)
  except SystemExit as error:  # --help exits with 1
    sys.exit(FINISHED if error.code == 1 else error.code)
  for name, count in before.items():
    if known[name].present > count + 1:
      raise UserError(f"--{name} is given twice; give one list, --{name}=A,B")
  return rest


def with_flags(
  config: ml_collections.ConfigDict, words: Sequence[str], choose: Choose | None
) -> ml_collections.ConfigDict:
  """Returns the config with the values of flags `--config.KEY=VALUE`.

  Raises:
    UserError, absl.flags.Error, TypeError, ValueError: a key or value is invalid.
  """
  settings = [word.partition("=")[::2] for word in words]
  paths = [name.split(".")[1:] for name, _ in settings]
  for path, (_, value) in zip(paths, settings, strict=True):
    if choose and path[0] in MODULES and path[1:] == ["name"]:
      choose(config, path[0], value)  # before its keywords are set
  for path, (name, value) in zip(paths, settings, strict=True):
    if isinstance(config_files.get_value(config, path), ml_collections.ConfigDict):
      raise UserError(f"{name}={value}: set {name}.name={value}")
  values = flags.FlagValues()
  argv = ["", *map(partial(_with_names, config), paths, words)]
  config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
  values(argv)
  return values.config


def _with_names(
  config: ml_collections.ConfigDict, path: Sequence[str], word: str
) -> str:
  """Rewrites `--config.key=a,b` as `--config.key=('a', 'b')` if the key takes names."""
  name, _, value = word.partition("=")
  old = config_files.get_value(config, path)
  if (
    isinstance(old, tuple)
    and all(isinstance(item, str) for item in old)
    and "," in value
    and not re.search(r"[\"'()\[\]]", value)
  ):
    return f"{name}={tuple(part.strip() for part in value.split(','))!r}"
  return word


def normalized(words: Sequence[str]) -> list[str]:
  """Rewrites `-config.key value` as `--config.key=value`."""
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


def _stop(message: str, code: int = MISTAKE) -> None:
  _exit("error: " + " ".join(message.split()), code)


def _exit(line: str, code: int) -> None:
  """Prints a line and exits with the code, even if the line can't be written."""
  for stream, text in ((sys.stdout, ""), (sys.stderr, line + "\n")):
    if stream is not None:  # None if it's closed
      try:
        print(text, end="", file=stream, flush=True)
      except OSError:  # a full disk, on which Python would fail again at its end
        _discard(stream)
  sys.exit(code)


def _discard(stream: TextIO) -> None:
  os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _quiet() -> None:
  """Hides advice and warnings from libraries."""
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
  os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
  os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
  logging.set_verbosity(logging.FATAL)  # Orbax also raises the errors that it logs
  if not sys.warnoptions:
    warnings.simplefilter("ignore")
