"""Views by a Python function of yours, named `package.module:function`.

It takes a list of texts (`Source`: id, text, response) and returns as many lists of
views. A view is a string (the new text), a pair (text, response), or a `Candidate`.
"""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.errors import UserError


def make(
  *, function: str, version: str = "", stored: bool = True, batch: int = 64
) -> Engine:
  """The engine.

  Args:
    function: the import path. One with a parameter `attempt` is asked again for texts
      that have too few views left, and given 0, then 1, …; any other is asked once.
    version: change it when the function changes, so that stored views are not used.
    stored: False where making a view is quicker than a look-up in the cache: then it
      may run in several processes.
    batch: texts handed over at once; what it returns is stored before the next.

  Raises:
    UserError: no such function, or what it returned are no views.
  """
  call = _find(function)
  takes_attempt = "attempt" in inspect.signature(call).parameters
  if batch < 1:
    raise UserError(f"--config.batch={batch}: it must be at least 1")

  def make_views(
    sources: Sequence[Source], number: int
  ) -> Iterator[tuple[int, Sequence[Candidate]]]:
    if number and not takes_attempt:
      yield from ((i, []) for i in range(len(sources)))
      return
    for begin in range(0, len(sources), batch):
      some = list(sources[begin : begin + batch])
      try:
        found = call(some, attempt=number) if takes_attempt else call(some)
      except UserError:
        raise
      except Exception as error:
        raise UserError(
          f"{function}, given {len(some)} texts from {some[0].id} on: {_said(error)}"
        ) from error
      if not isinstance(found, Sequence) or len(found) != len(some):
        size = len(found) if isinstance(found, Sequence) else type(found).__name__
        raise UserError(
          f"{function} returned {size} for {len(some)} texts; return one list of views "
          "for each text"
        )
      for k, views in enumerate(found):
        if isinstance(views, str) or not isinstance(views, Sequence):
          raise UserError(
            f"{function} returned {views!r:.60} for a text; return a list of views"
          )
        yield begin + k, [_candidate(function, some[k], view) for view in views]

  settings = {"function": function, "version": version}
  return Engine("custom", settings, make_views, stored=stored)


def _find(path: str) -> Callable:
  module, _, name = path.partition(":")
  if not (module and name):
    raise UserError(
      f"--config.function={path!r}: write it as package.module:function, for a "
      "function list[Source] -> list[list[view]]"
    )
  if os.getcwd() not in sys.path:
    sys.path.insert(0, os.getcwd())
  try:
    found = importlib.import_module(module)
  except ModuleNotFoundError as error:
    if error.name is None or not f"{module}.".startswith(f"{error.name}."):
      raise UserError(f"--config.function={path}: {error}, which it imports") from None
    raise UserError(
      f"--config.function={path}: {error}; run from the folder that holds it, or "
      "install it"
    ) from None
  except Exception as error:
    raise UserError(f"--config.function={path}: {_said(error)}") from error
  if not callable(getattr(found, name, None)):
    raise UserError(f"--config.function={path}: {module} has no function {name!r}")
  return getattr(found, name)


def _said(error: Exception) -> str:
  """What it is, and the deepest place that it comes from."""
  where = traceback.extract_tb(error.__traceback__)[-1]
  return f"{type(error).__name__}: {error} ({where.filename}, line {where.lineno})"


def _candidate(function: str, source: Source, view: object) -> Candidate:
  if isinstance(view, Candidate):
    return view
  if isinstance(view, str):
    return Candidate(view, source.response)
  if (
    isinstance(view, tuple)
    and len(view) == 2
    and isinstance(view[0], str)
    and isinstance(view[1], str | None)
  ):
    return Candidate(*view)
  raise UserError(
    f"{function} returned {view!r:.60} as a view; return a string, a pair (text, "
    "response) or a Candidate"
  )
