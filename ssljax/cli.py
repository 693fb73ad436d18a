"""Runs an absl program so that a mistake of the user is one line and exit code 2."""

import itertools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags, logging

from ssljax.errors import CUT_OFF, INTERRUPTED, MISTAKE, UserError


def run(main: Callable[..., int | None], positional: bool = False) -> None:
  """Parses the flags, runs `main()` and exits with what it returns (None is 0).

  Args:
    positional: `main` gets the list of what is no flag; else that is a mistake.
  """
  _quiet()
  app.run(lambda argv: guarded(main, argv, positional), flags_parser=_parse)


def guarded(
  main: Callable[..., int | None], argv: Sequence[str], positional: bool = False
) -> int | None:
  """What `main()` returns; exits with one line where the user can mend what it met."""
  if len(argv) > 1 and not positional:
    _stop(f"unexpected argument {argv[1]!r}: flags are written --name=value")
  try:
    return main(list(argv[1:])) if positional else main()
  except UserError as error:
    _stop(str(error), error.code)
  except PermissionError as error:
    if error.filename is None:
      raise
    _stop(f"{error.filename}: {error.strerror}; change its permissions or name another")
  except BrokenPipeError:  # `| head` has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(CUT_OFF)
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(INTERRUPTED)


def _parse(argv: Sequence[str]) -> list[str]:
  values = flags.FLAGS
  _find_configs(argv)
  # The keys of a config are known once it is read: it comes first wherever it stands.
  # ml_collections looks into sys.argv, too.
  words = sorted(
    argv[1:], key=lambda word: not word.startswith(("--config=", "-config="))
  )
  sys.argv = argv = [argv[0], *words]
  try:
    rest = values(argv)
    if "config" in values and getattr(values, "config", None) is not None:
      values.config.keys()  # a config file that failed to load raises only now
  except (flags.Error, UserError) as error:
    said = str(error)
    if "Traceback" in said:  # of a config file; ml_collections quotes all of it
      said = f"cannot load the config file: {said.strip().splitlines()[-1]}"
    _stop(said if isinstance(error, UserError) else f"{said} (--help lists the flags)")
  except (AttributeError, KeyError) as error:
    # ml_collections: an unknown key, often with the nearest name after a newline.
    plain = str(error).strip("\"'").replace("\\n", "\n").replace("\\", "")
    first, *more = plain.split("\n")
    first = first.rpartition("lookup: ")[2]  # of a key of what has no keys
    flag = _flag_of(argv, first.strip("'\""))
    hint = f": {more[0]}" if more else ""
    for part in ("method", "wrapper"):
      if not more and flag.startswith(f"--config.{part}."):
        hint = _keywords(argv, part)
    _stop(f"unknown config key {flag}{hint}")
  except (ImportError, SyntaxError) as error:
    _stop(f"cannot load the config file: {type(error).__name__}: {error}")
  except (TypeError, ValueError) as error:
    _stop(f"bad config value: {error}")
  except OSError as error:
    reason = [line.strip() for line in str(error).splitlines() if "Errno" in line]
    _stop(
      f"cannot load the config file: {reason[-1] if reason else error}; its path begins"
      " where you are, which is mostly the root of the repository"
    )
  return rest


def _find_configs(argv: Sequence[str]) -> None:
  """Lets a config file import its neighbours as `configs`, from any folder."""
  words = [word for argument in argv for word in argument.split("=", 1)]
  for flag, value in itertools.pairwise(words):
    if flag.lstrip("-") == "config":
      sys.path.append(str(Path(value.split(":")[0]).resolve().parent.parent))


def _flag_of(argv: Sequence[str], key: str) -> str:
  """The flag as it was typed, for a key that a config does not have."""
  for argument in argv:
    name = argument.lstrip("-").split("=")[0]
    if name.startswith("config.") and f".{key}." in f".{name}.":
      return f"--{name}"
  return key


def _keywords(argv: Sequence[str], part: str) -> str:
  """What the method, or the wrapper, that a config names has; "" without that part."""
  # The config as it is without any key; ml_collections looks into sys.argv, too.
  sys.argv = [w for w in argv if not w.startswith(("--config.", "-config."))]
  flags.FLAGS(sys.argv)
  known = flags.FLAGS.config.get(part)
  if known is None:
    return ""
  if not known["name"]:
    return ": a wrapper's keywords come with --config=configs/METHOD.py:prompt+WRAPPER"
  keywords = ", ".join(key for key in known if key != "name")
  return f": {known['name']} has {keywords or 'no keywords'}"


def _stop(message: str, code: int = MISTAKE) -> None:
  print("error: " + " ".join(message.split()), file=sys.stderr)
  sys.exit(code)


def _quiet() -> None:
  """Shows what the user asked for and no advice of the libraries beneath."""
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
  os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
  os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
  logging.set_verbosity(logging.ERROR)
  if not sys.warnoptions:
    warnings.simplefilter("ignore")
