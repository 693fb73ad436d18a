"""The LLM engine on a stub: one text or many, and what stops it."""

import pytest

pytest.importorskip(
  "openai", reason="needs the extra augment: pip install -e .[augment]"
)

from ssljax.augment.engine import Source
from ssljax.augment.engines.llm import engine as llm
from ssljax.errors import UserError
from tests.augment.stub_server import error

KEY = "sk-recognise-me-4711"
# Faults: (what the server does first, the problem if it never stops, may it pass).
PASSING = {
  "rate limit": error(429),
  "error 500": error(500),
  "error 503": error(503),
  "no connection": "drop",
}


def engine(stub, **keywords):
  return llm.make(**{"base_url": stub.url, "model": "m", "concurrency": 4} | keywords)


def sources(n, response=None):
  return [Source(f"r{i}", f"bake loaf {i}", response) for i in range(n)]


def made(built, some, attempt=0):
  """Candidates by index; each index once."""
  pairs = list(built.make(some, attempt))
  assert len(pairs) == len({i for i, _ in pairs})
  return dict(pairs)


def one(stub, **keywords):
  """The only candidate of one text."""
  return made(engine(stub, **keywords), sources(1))[0][0]


def stopped(built, some):
  """(what came before the engine stopped, what it said)."""
  came = []
  running = built.make(some, 0)
  with pytest.raises(UserError) as caught:
    came.extend(running)  # keeps what came before the error
  assert "\n" not in str(caught.value)
  return dict(came), str(caught.value)
