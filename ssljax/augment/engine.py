"""What an engine is: texts in, candidate views out, as they come.

An engine lives in `ssljax/augment/engines/<name>.py`, which has a function
`make(**keywords) -> Engine`. `config.engine` names the file, and each key of the config
that is not one of `configs/augment/base.py` is a keyword of its `make`. A `make` that
names them also gets `seed` and `views` of the shared keys, and the data folder as
`data`.

Engines know nothing of files, caches, filters or retries: `run.py` does all that. They
never see a label.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

# The problem of a text that exceeds a model's context. It is never cached, since the
# context length depends on the server.
TOO_LONG = "too long for the model"


class Source(NamedTuple):
  """A text to rewrite, or a pair; without its label, on purpose."""

  id: str
  text: str
  response: str | None = None


class Candidate(NamedTuple):
  """One candidate view, or the reason why there is none.

  For a pair an engine may change the text, the response or both; what it leaves alone
  it repeats.
  """

  text: str = ""
  response: str | None = None
  problem: str = ""  # "": a view. Else a short reason that is counted: "refusal", …
  passing: bool = False  # of a problem: True if asking again may help (not cached)


class Engine(NamedTuple):
  """A way to make views.

  `make(sources, number)` yields (i, candidates of sources[i]) in any order, each i
  once, as soon as they are there: mostly one candidate, the text's candidate `number`.
  A text is asked for with 0, 1, … until it has its views; `number` lets the engine vary
  prompt, temperature or seed. None at all means that it has no more for this text.
  The same arguments give the same candidates, except where a server decides.
  """

  name: str  # short; stands in `origin` and in the report
  settings: Mapping[str, Any]  # JSON: all that a result depends on beside the text
  make: Callable[[Sequence[Source], int], Iterator[tuple[int, Sequence[Candidate]]]]
  stored: bool = True  # False: cheaper to make again than to look up
  close: Callable[[], None] = lambda: None
  usage: Callable[[], Mapping[str, float]] = dict  # requests, tokens, cost, … so far
  # JSON: all that candidate `number` of a source depends on beside the text. None: on
  # the settings and the number.
  asks: Callable[[Source, int], Mapping[str, Any]] | None = None
  # Called from a signal handler: begin nothing new, let `make` end after what is in
  # flight. None: what is in flight is given up.
  stop: Callable[[], None] | None = None
