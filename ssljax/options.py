"""Describes options in one place: their type, range, default and meaning.

The description of an option is an annotation. The parameters of a method's `make` are
options, and so are the attributes of `config.Keys`:

  threshold: Annotated[Share, "least confidence of a pseudo-label"] = 0.95

`describe` reads such annotations, and `check` checks values against them. The command
line, the docs and the error messages show these descriptions.
"""

import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple


class Range(NamedTuple):
  """The values that a number may have, including both ends."""

  least: float
  most: float = math.inf


class Absent(NamedTuple):
  """The value of an option in saved configs that don't have the option yet.

  A new option needs it if the option's default changes what runs compute. Runs that
  were saved before keep the behaviour that they started with.

  Args:
    former: earlier defaults. A run that was saved with one of them keeps it when the
      command gives no other value than today's default.
  """

  value: Any
  former: tuple[Any, ...] = ()


class Published(NamedTuple):
  """The value that a method's authors use, if it isn't the default.

  It is the value in their experiments on safety texts; otherwise, on other texts;
  otherwise, on CIFAR-10. If a loss is defined in another way here, it's the value that
  has the same effect.

  Args:
    only: values that other keywords must have for this.
  """

  value: Any
  only: Mapping[str, Any] = {}


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
  type: Any  # bool, int, float, str or tuple[str, ...]; other types aren't checked
  default: Any
  range: Range | None = None
  choices: tuple[Any, ...] = ()
  meaning: str = ""
  absent: Any = None  # the value in saved configs without the option; see `Absent`
  published: Published = Published(None)
  former: tuple[Any, ...] = ()  # earlier defaults; see `Absent`

  @property
  def accepts(self) -> str:
    """Describes the accepted values, such as "float, 0 to 1"."""
    if self.choices:
      return " | ".join(map(as_flag, self.choices))
    name = _type_name(self.type)
    if self.range and math.isfinite(self.range.least):
      return f"{name}, {_bounds(self.range)}"
    return name


def describe(
  source: Callable[..., Any] | type, required: bool = False
) -> dict[str, Option]:
  """Returns the options of a class or a function, by name.

  The options of a function are its parameters with a default.

  Args:
    required: include parameters without a default.
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
  """Checks that each value has the type of its option and is in the option's range.

  Raises:
    ValueError: the first wrong value, as "name=value: what is accepted".
  """
  for name, value in values.items():
    if problem := _problem(options[name], value):
      raise ValueError(f"{name}={value!r}: {problem}")


def published(
  options: Mapping[str, Option], chosen: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the chosen values, and the authors' values of all other options."""
  values = {name: option.published.value for name, option in options.items()}
  values |= chosen
  for name, option in options.items():
    only = option.published.only
    if name not in chosen and any(values[key] != only[key] for key in only):
      values[name] = option.default
  return values


def nearest(name: str, names: Iterable[str]) -> str:
  """Returns a hint for an unknown name: "; did you mean 'steps'?", or all names."""
  names = sorted(names)
  close = difflib.get_close_matches(name, names, 1)
  if close:
    return f"; did you mean {close[0]!r}?"
  return f"; there are {', '.join(names)}" if names else ""


def listing(
  options: Mapping[str, Option], prefix: str = "", values: Mapping[str, Any] = {}
) -> list[str]:
  """Returns a line for each option: name and value, meaning, accepted values.

  Args:
    values: the values by name; an option that isn't in it has its default.
  """
  left = [
    f"{prefix}{name}={as_flag(values.get(name, option.default))}"
    for name, option in options.items()
  ]
  width = max(map(len, left), default=0)
  return [
    f"{start:{width}}  {option.meaning and f'{option.meaning} '}({option.accepts})"
    for start, option in zip(left, options.values(), strict=True)
  ]


def as_flag(value: Any) -> str:
  """Writes a value as one types it on the command line."""
  if value is REQUIRED:
    return "REQUIRED"
  if isinstance(value, tuple | list):
    return ",".join(map(str, value))
  return "''" if value == "" else str(value)


def _option(name: str, hint: Any, default: Any) -> Option:
  notes = {type(note): note for note in getattr(hint, "__metadata__", ())}
  kind = typing.get_args(hint)[0] if notes else hint
  choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
  absent = notes.get(Absent, Absent(default))
  return Option(
    name,
    type(choices[0]) if choices else kind,
    default,
    notes.get(Range),
    choices,
    notes.get(str, ""),
    absent.value,
    notes.get(Published, Published(default)),
    absent.former,
  )


def _problem(option: Option, value: Any) -> str:
  """Says what is wrong with a value; "" if nothing is."""
  if option.choices:
    accepted = ", ".join(map(as_flag, option.choices))
    return "" if value in option.choices else f"it must be one of {accepted}"
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
    return f"give one or more names, such as {option.name}=\"('first','second')\""
  return ""


def _type_name(kind: Any) -> str:
  """Names a type: "string", "strings" for a sequence, "float or floats" for a union."""
  if isinstance(kind, types.UnionType):
    return " or ".join(map(_type_name, typing.get_args(kind)))
  if isinstance(kind, types.GenericAlias):
    return f"{_type_name(typing.get_args(kind)[0])}s"
  return getattr(kind, "__name__", str(kind)).replace("str", "string")


def _bounds(limits: Range) -> str:
  if math.isinf(limits.most):
    return f"{limits.least:g} or more"
  return f"{limits.least:g} to {limits.most:.10g}"
