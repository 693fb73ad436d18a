"""Options and their description: type, range, default and meaning, in one place.

An option is described by an annotation. The parameters of a method's `make` are
options, and so are the attributes of `config.Keys`:

  threshold: Annotated[Share, "least confidence of a pseudo-label"] = 0.95

`describe` reads such annotations, and `check` checks values against them. The command
line, the docs and error messages list them from there.
"""

import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple


class Range(NamedTuple):
  """The values that a number may have, both ends included."""

  least: float
  most: float = math.inf


class Absent(NamedTuple):
  """The value that an option has in a saved config that lacks it.

  An option that is added later needs it if its default changes what runs compute: runs
  saved before keep the behaviour that they were started with.
  """

  value: Any


Share = Annotated[float, Range(0.0, 1.0)]  # a probability, a quantile, a momentum
Amount = Annotated[float, Range(0.0)]  # a weight, a temperature with a limit at 0
Temperature = Annotated[float, Range(1e-3)]  # a divisor
Factor = Annotated[float, Range(1.0)]  # a growth or decay factor
Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]

REQUIRED = inspect.Parameter.empty  # the default of an option that must be given
_KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


class Option(NamedTuple):
  """One option; see the module docstring."""

  name: str
  type: Any  # bool, int, float, str or tuple[str, ...]; others aren't checked
  default: Any
  range: Range | None = None
  choices: tuple[Any, ...] = ()
  meaning: str = ""
  absent: Any = None  # value in a saved config that lacks it; see `Absent`

  @property
  def accepts(self) -> str:
    """The accepted values in words, such as "float, 0 to 1"."""
    if self.choices:
      return " | ".join(map(str, self.choices))
    name = _type_name(self.type)
    if self.range and math.isfinite(self.range.least):
      return f"{name}, {_bounds(self.range)}"
    return name


def describe(
  source: Callable[..., Any] | type, required: bool = False
) -> dict[str, Option]:
  """The options of a function (its parameters with a default) or class, by name.

  Args:
    required: parameters without a default are options as well.
  """
  hints = typing.get_type_hints(source, include_extras=True)
  if isinstance(source, type) and not issubclass(source, tuple):
    defaults = {name: vars(source)[name] for name in hints}
  else:
    defaults = {
      name: parameter.default
      for name, parameter in inspect.signature(source).parameters.items()
      if required or parameter.default is not REQUIRED
    }
  return {
    name: _option(name, hints.get(name, type(default)), default)
    for name, default in defaults.items()
  }


def check(options: Mapping[str, Option], values: Mapping[str, Any]) -> None:
  """Checks that each value has its option's type and is in its range.

  Raises:
    ValueError: "name=value: what is accepted".
  """
  for name, value in values.items():
    if problem := _problem(options[name], value):
      raise ValueError(f"{name}={value!r}: {problem}")


def nearest(name: str, names: Iterable[str]) -> str:
  """A hint for an unknown name: "; did you mean 'steps'?", or all names."""
  names = sorted(names)
  close = difflib.get_close_matches(name, names, 1)
  if close:
    return f"; did you mean {close[0]!r}?"
  return f"; there are {', '.join(names)}" if names else ""


def listing(options: Mapping[str, Option], prefix: str = "") -> list[str]:
  """A line for each option: name and default, meaning, accepted values."""
  left = [
    f"{prefix}{name}={as_flag(option.default)}" for name, option in options.items()
  ]
  width = max(map(len, left), default=0)
  return [
    f"{start:{width}}  {option.meaning and f'{option.meaning} '}({option.accepts})"
    for start, option in zip(left, options.values(), strict=True)
  ]


def as_flag(value: Any) -> str:
  """A value as one types it on the command line."""
  if value is REQUIRED:
    return "REQUIRED"
  if isinstance(value, tuple | list):
    return ",".join(map(str, value))
  return "''" if value == "" else str(value)


def _option(name: str, hint: Any, default: Any) -> Option:
  notes = {type(note): note for note in getattr(hint, "__metadata__", ())}
  kind = typing.get_args(hint)[0] if notes else hint
  choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
  return Option(
    name,
    type(choices[0]) if choices else kind,
    default,
    notes.get(Range),
    choices,
    notes.get(str, ""),
    notes.get(Absent, Absent(default)).value,
  )


def _problem(option: Option, value: Any) -> str:
  """What is wrong with a value; "" if nothing is."""
  if option.choices:
    accepted = ", ".join(map(str, option.choices))
    return "" if value in option.choices else f"it is one of {accepted}"
  if option.type in _KINDS:
    kinds = int | float if option.type is float else option.type
    # True and False are integers as well.
    if not isinstance(value, kinds) or isinstance(value, bool) != (option.type is bool):
      return f"it must be {_KINDS[option.type]}"
  if option.range and not option.range.least <= value <= option.range.most:
    return f"it must be {_bounds(option.range)}"
  if option.type is float and not math.isfinite(value):
    return "it must be finite"
  if typing.get_origin(option.type) is tuple and not (
    isinstance(value, tuple | list)
    and value
    and all(isinstance(item, str) and item for item in value)
  ):
    return f"give one name or several, {option.name}=\"('first','second')\""
  return ""


def _type_name(kind: Any) -> str:
  """A type in words: "string", "strings" for a sequence, "float or floats"."""
  if isinstance(kind, types.UnionType):
    return " or ".join(map(_type_name, typing.get_args(kind)))
  if isinstance(kind, types.GenericAlias):
    return f"{_type_name(typing.get_args(kind)[0])}s"
  return getattr(kind, "__name__", str(kind)).replace("str", "string")


def _bounds(limits: Range) -> str:
  if math.isinf(limits.most):
    return f"{limits.least:g} or more"
  return f"{limits.least:g} to {limits.most:.10g}"
