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
    problem = _problem(options[name], value)
    if problem:
      raise ValueError(f"{name}={value!r}: {problem}")


def parse(option: Option, text: str) -> Any:
  """The value that `text` stands for on the command line.

  Raises:
    ValueError: it isn't of the option's type.
  """
  if option.type is bool:
    if text.lower() not in ("true", "false"):
      raise ValueError(f"{option.name}={text}: it must be true or false")
    return text.lower() == "true"
  if option.type in (int, float):
    try:
      return option.type(text)
    except ValueError:
      kind = "an integer" if option.type is int else "a number"
      raise ValueError(f"{option.name}={text}: it must be {kind}") from None
  return tuple(text.split(",")) if _is_tuple(option) else text


def nearest(name: str, names: Iterable[str]) -> str:
  """A hint for an unknown name: "; did you mean 'steps'?", or all names."""
  names = sorted(names)
  close = difflib.get_close_matches(name, names, 1)
  if close:
    return f"; did you mean {close[0]!r}?"
  return f"; there are {', '.join(names)}" if names else ""


def listing(options: Mapping[str, Option], prefix: str = "") -> list[str]:
  """A line for each option: name and default, meaning, accepted values."""
  left = [f"{prefix}{name}={show(option.default)}" for name, option in options.items()]
  width = max(map(len, left), default=0)
  return [
    f"{start:{width}}  {option.meaning and f'{option.meaning} '}({option.accepts})"
    for start, option in zip(left, options.values(), strict=True)
  ]


def show(value: Any) -> str:
  """A value as one types it on the command line."""
  if value is REQUIRED:
    return "REQUIRED"
  if isinstance(value, tuple | list):
    return ",".join(map(str, value))
  return "''" if value == "" else str(value)


def _option(name: str, hint: Any, default: Any) -> Option:
  range_, meaning, absent = None, "", default
  if typing.get_origin(hint) is Annotated:
    for item in hint.__metadata__:
      if isinstance(item, Range):
        range_ = item
      elif isinstance(item, Absent):
        absent = item.value
      elif isinstance(item, str):
        meaning = item
    hint = typing.get_args(hint)[0]
  choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
  if choices:
    hint = type(choices[0])
  return Option(name, hint, default, range_, choices, meaning, absent)


def _problem(option: Option, value: Any) -> str:
  """What is wrong with a value; "" if nothing is."""
  if option.choices:
    return "" if value in option.choices else f"it is one of {_listed(option.choices)}"
  if option.type is bool and not isinstance(value, bool):
    return "it must be true or false"
  if option.type in (int, float):
    kinds = int if option.type is int else int | float
    if isinstance(value, bool) or not isinstance(value, kinds):
      return f"it must be {'an integer' if option.type is int else 'a number'}"
    if option.range and not option.range.least <= value <= option.range.most:
      return f"it must be {_bounds(option.range)}"
    if not math.isfinite(value):
      return "it must be finite"
  if option.type is str and not isinstance(value, str):
    return "it must be a string"
  if _is_tuple(option) and not (
    isinstance(value, tuple | list)
    and value
    and all(isinstance(item, str) and item for item in value)
  ):
    return f"give one name or several, {option.name}=\"('first','second')\""
  return ""


def _is_tuple(option: Option) -> bool:
  return typing.get_origin(option.type) is tuple


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


def _listed(choices: Iterable[Any]) -> str:
  return ", ".join(map(str, choices))
