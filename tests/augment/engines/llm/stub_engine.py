"""Creates LLM engines that use a stub server, and collects their candidates."""

import pytest

pytest.importorskip(
  "openai", reason="needs the extra augment: pip install -e .[augment]"
)

from ssljax.augment import engines
from ssljax.augment.engine import Source
from ssljax.errors import UserError
from tests.augment.stub_server import error

KEY = "sk-recognise-me-4711"
# Temporary faults by the problem that remains if they persist: what the server does.
TEMPORARY = {
  "rate limit": error(429),
  "error 500": error(500),
  "error 503": error(503),
  "no connection": "drop",
}


def make_engine(server, **keywords):
  return engines.make(
    "llm", {"base_url": server.url, "model": "m", "concurrency": 4} | keywords
  )


def make_offline_engine(**keywords):
  url = "http://127.0.0.1:1/v1"
  return engines.make("llm", {"base_url": url, "model": "m"} | keywords)


def make_sources(n, response=None):
  return [Source(f"r{i}", f"bake loaf {i}", response) for i in range(n)]


def collect(engine, sources, number=0):
  """Candidates by index; fails if an index occurs twice."""
  pairs = list(engine.make(sources, number))
  assert len(pairs) == len({i for i, _ in pairs})
  return dict(pairs)


def single_candidate(server, **keywords):
  """The candidate of a single text."""
  return collect(make_engine(server, **keywords), make_sources(1))[0][0]


def collect_until_error(engine, sources):
  """Returns the candidates before the engine raised UserError, and its message."""
  pairs = []
  with pytest.raises(UserError) as caught:
    pairs.extend(engine.make(sources, 0))
  assert "\n" not in str(caught.value)
  return dict(pairs), str(caught.value)
