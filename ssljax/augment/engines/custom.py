"""Makes views with a user's Python function, given as `package.module:function`.

The function takes a list of `Source` (id, text, response) and returns a list of views
for each source. A view is a string (the new text), a pair (text, response) or a
`Candidate`.
"""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.data.records.files import chunked
from ssljax.errors import UserError
from ssljax.options import Count


def make(
  *,
  function: Annotated[str, "the function to call, as package.module:function"],
  version: Annotated[
    str, "change it when the function changes, so that cached views aren't used"
  ] = "",
  stored: Annotated[bool, "whether to cache views; False for fast functions"] = True,
  batch: Annotated[Count, "texts in one call; views are stored after each call"] = 64,
) -> Engine:
  """Creates the engine.

  If the function has a parameter `attempt`, it is first called with 0, and then with 1,
  2, … for texts that lack views. Otherwise it gets each text only once. If `stored` is
  False, it may run in several processes.

  Raises:
    UserError: the function cannot be imported, or (later) it fails or doesn't return a
      list of views for each text.
  """
  call = _import(function)
  takes_attempt = "attempt" in inspect.signature(call).parameters

  def make_views(sources: Sequence[Source], number: int):
    if number and not takes_attempt:
      yield from ((i, []) for i in range(len(sources)))
      return
    keywords = {"attempt": number} if takes_attempt else {}
    for rows in chunked(range(len(sources)), batch):
      texts = [sources[i] for i in rows]
      try:
        results = call(texts, **keywords)
        results = list(results) if isinstance(results, Iterable) else results
      except (Exception, SystemExit) as error:
        raise UserError(
          f"{function} failed on {len(texts)} texts (the first has id {texts[0].id}):"
          f" {_describe(error)}"
        ) from error
      if not isinstance(results, list) or len(results) != len(texts):
        kind = type(results).__name__
        length = f" of length {len(results)}" if isinstance(results, list) else ""
        raise UserError(
          f"{function} returned {kind}{length} for {len(texts)} texts; return a list of"
          " views for each text"
        )
      for i, views in zip(rows, results, strict=True):
        if isinstance(views, str) or not isinstance(views, Sequence):
          raise UserError(
            f"{function} returned {views!r:.60} for a text; return a list of views"
          )
        yield i, [_candidate(function, sources[i], view) for view in views]

  settings = {"function": function, "version": version}
  return Engine("custom", settings, make_views, stored=stored)


def _import(path: str) -> Callable:
  module_name, _, name = path.partition(":")
  if not (module_name and name):
    raise UserError(
      f"--config.function={path!r}: write it as package.module:function; the function"
      " takes list[Source] and returns list[list[view]]"
    )
  if os.getcwd() not in sys.path:
    sys.path.insert(0, os.getcwd())
  try:
    module = importlib.import_module(module_name)
  except (Exception, SystemExit) as error:
    missing = isinstance(error, ModuleNotFoundError) and error.name
    if missing and f"{module_name}.".startswith(f"{missing}."):
      raise UserError(
        f"--config.function={path}: {error}; run the command in the folder that"
        f" contains {missing}, or install it"
      ) from None
    raise UserError(f"--config.function={path}: {_describe(error)}") from error
  function = getattr(module, name, None)
  if not callable(function):
    raise UserError(f"--config.function={path}: {module_name} has no function {name!r}")
  return function


def _describe(error: Exception) -> str:
  """Describes an error in one line, with the innermost file and line."""
  frame = traceback.extract_tb(error.__traceback__)[-1]
  return f"{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"


def _candidate(function: str, source: Source, view: object) -> Candidate:
  match view:
    case Candidate():
      return view
    case str():
      return Candidate(view, source.response)
    case tuple((str(), str() | None)):
      return Candidate(*view)
  raise UserError(
    f"{function} returned {view!r:.60} as a view; return a string, a pair (text,"
    " response) or a Candidate"
  )
