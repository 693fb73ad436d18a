"""Defines the interface of an engine: texts in, candidate views out.

An engine is a module `ssljax/augment/engines/<name>.py` with a function
`make(**keywords) -> Engine`. `config.engine` names the module. The keywords are all
config keys that aren't in ssljax/augment/settings.py. If `make` has a parameter named
`seed`, `views` or `data` (the dataset folder), the pipeline sets it.

The pipeline caches and filters candidates, and asks for more if some are dropped.
Engines do none of this, and never see a label.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

# The problem of a text that exceeds a model's context. It is never cached, since the
# context length depends on the server.
TOO_LONG = "too long for the model"


class Source(NamedTuple):
  """A text to rewrite, or a pair of text and response. It deliberately has no label."""

  id: str
  text: str
  response: str | None = None


class Candidate(NamedTuple):
  """A candidate view, or the reason why the engine has none.

  The view of a pair has a new text, a new response or both; an unchanged part is
  repeated.
  """

  text: str = ""
  response: str | None = None
  problem: str = ""  # short reason, such as "refusal"; "" for a view
  transient: bool = False  # the problem may go away, so it isn't cached


Answers = Generator[tuple[int, Sequence[Candidate]], None, None]


class Engine(NamedTuple):
  """A way to make views.

  `make(sources, number)` yields (i, candidates of sources[i]) once for each i, in any
  order, as soon as the candidates are ready. Usually there is one candidate. The
  pipeline asks for number 0, 1, … until the text has enough views. An engine may vary
  its prompt, temperature or seed with the number. An empty list means that the text has
  no more candidates. Equal arguments give equal candidates, unless a server computes
  the candidates.
  """

  name: str  # short; part of `origin` and of the report
  settings: Mapping[str, Any]  # JSON of all that results depend on, except the text
  make: Callable[[Sequence[Source], int], Answers]
  stored: bool = True  # False if a cache look-up takes longer than making a view
  close: Callable[[], None] = lambda: None
  usage: Callable[[], Mapping[str, float]] = dict  # requests, tokens, cost, … so far
  # Returns, as JSON, all that candidate `number` depends on, except the source's text.
  # None: candidates depend on `settings` and the number.
  asks: Callable[[Source, int], Mapping[str, Any]] | None = None
  # A signal handler calls it. From then on, `make` must start no new request, and must
  # end when the requests in flight have finished. None: these requests are abandoned.
  stop: Callable[[], None] | None = None
