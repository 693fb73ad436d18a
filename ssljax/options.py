"""Types of a method's keywords that say what values they may have, and the check."""

import math
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

Share = Annotated[float, (0.0, 1.0)]  # a probability, a quantile, a momentum
Amount = Annotated[float, (0.0, math.inf)]  # a weight, a temperature with a limit at 0
Temperature = Annotated[float, (1e-3, math.inf)]  # one that is divided by
Factor = Annotated[float, (1.0, math.inf)]  # what something grows or falls by
Count = Annotated[int, (1, math.inf)]


def check(make: Callable, keywords: Mapping[str, Any]) -> None:
  """Holds keywords to the types of the parameters of `make`.

  Raises:
    ValueError: a value out of range or not among the choices; says what may be.
  """
  hints = typing.get_type_hints(make, include_extras=True)
  for name, value in keywords.items():
    hint = hints.get(name)
    if typing.get_origin(hint) is Literal and value not in typing.get_args(hint):
      allowed = ", ".join(map(str, typing.get_args(hint)))
      raise ValueError(f"{name}={value!r}: it is one of {allowed}")
    if typing.get_origin(hint) is Annotated:
      least, most = typing.get_args(hint)[1]
      if not least <= value <= most or math.isinf(value):
        bound = f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:g}"
        raise ValueError(f"{name}={value}: it must be {bound}")
    if isinstance(value, float) and not math.isfinite(value):
      raise ValueError(f"{name}={value}: it must be finite")
