"""Defines the interface of an engine: texts in, candidate views out.

An engine is a module `ssljax/augment/engines/<name>.py` with a function
`make(**keywords) -> Engine`. `config.engine` names the module, and every key of the
config that isn't in `configs/augment/base.py` is a keyword of its `make`. A `make` with
parameters `seed`, `views` or `data` (the dataset folder) also gets those.

Engines don't read files, cache, filter or retry: the pipeline does. They never see a
label.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

# The problem of a text that exceeds a model's context. It is never cached, since the
# context length depends on the server.
TOO_LONG = "too long for the model"


class Source(NamedTuple):
  """A text to rewrite, or a pair of text and response. Has no label on purpose."""

  id: str
  text: str
  response: str | None = None


class Candidate(NamedTuple):
  """A candidate view, or the reason why there is none.

  For a pair an engine may change the text, the response or both, and repeats the part
  that it doesn't change.
  """

  text: str = ""
  response: str | None = None
  problem: str = ""  # "" for a view, else a short reason, such as "refusal"
  transient: bool = False  # the problem may go away, so it isn't cached


class Engine(NamedTuple):
  """A way to make views.

  `make(sources, number)` yields (i, candidates of sources[i]), each i once and in any
  order, as soon as they are ready. Usually there is one candidate: number `number` of
  that text. The pipeline asks for 0, 1, … until the text has its views, and `number`
  lets an engine vary its prompt, temperature or seed. An empty list means that the text
  has no more candidates. Equal arguments give equal candidates, unless a server
  decides.
  """

  name: str  # short; part of `origin` and of the report
  settings: Mapping[str, Any]  # JSON: everything but the text that results depend on
  make: Callable[[Sequence[Source], int], Iterator[tuple[int, Sequence[Candidate]]]]
  stored: bool = True  # False: making a view is cheaper than a cache look-up
  close: Callable[[], None] = lambda: None
  usage: Callable[[], Mapping[str, float]] = dict  # requests, tokens, cost, … so far
  # JSON: everything but the text that candidate `number` of a source depends on. None:
  # `settings` and the number.
  asks: Callable[[Source, int], Mapping[str, Any]] | None = None
  # Called from a signal handler: start nothing new, and let `make` end once the
  # requests in flight have finished. None: requests in flight are abandoned.
  stop: Callable[[], None] | None = None
