"""Queries an engine through the cache, and gives up if the engine's server is down."""

import contextlib
from collections import Counter
from collections.abc import Sequence

from ssljax.augment import cache
from ssljax.augment.cache import Cache
from ssljax.augment.engine import Answers, Candidate, Engine, Source
from ssljax.errors import RunError
from ssljax.runtime.signals import StopSignals

MAX_FAILURES = 20  # consecutive transient problems after which the run stops


class Stopped(Exception):
  """The user asked to stop, and the requests in flight have finished."""


class CachedEngine:
  """Answers queries from the cache if possible, otherwise with the engine."""

  def __init__(
    self, engine: Engine, cache: Cache | None = None, stop: StopSignals | None = None
  ):
    self.engine, self.cache, self.stop = engine, cache, stop
    self.counts: Counter[str] = Counter()
    self._failures = 0  # transient problems since the last result

  def __call__(self, sources: Sequence[Source], number: int) -> Answers:
    """Yields what `Engine.make` yields.

    Raises:
      RunError: there were MAX_FAILURES transient problems in a row.
      Stopped: `stop` is true.
    """
    if self.cache is None:
      yield from self._query(sources, number)
      return
    same: dict[bytes, list[int]] = {}  # rows with the same text share a query
    for i, source in enumerate(sources):
      same.setdefault(cache.key(self.engine, source, number), []).append(i)
    missing = []
    for key, rows in same.items():
      candidates = self.cache.get(key)
      if candidates is None:
        missing.append((key, rows))
      else:
        self.counts["answers from the cache"] += 1
        yield from ((i, candidates) for i in rows)
    if self.cache.damaged:
      self.counts["damaged answers in the cache, asked again"] += self.cache.damaged
      self.cache.damaged = 0
    unique = [sources[rows[0]] for _, rows in missing]
    for k, candidates in self._query(unique, number):
      key, rows = missing[k]
      self.cache.put(key, self.engine.name, candidates)
      yield from ((i, candidates) for i in rows)

  def close(self) -> None:
    if self.cache is not None:
      self.cache.close()

  def _query(self, sources: Sequence[Source], number: int) -> Answers:
    if self.stop:
      raise Stopped
    if not sources:
      return
    answered = set()
    with contextlib.closing(self.engine.make(sources, number)) as answers:
      for k, candidates in answers:
        answered.add(k)
        self.counts["answers of the engine"] += 1
        yield k, candidates
        # An empty answer shows nothing about the server, only that the text has no more
        # candidates. After a stop, an engine reports a problem for each text that it
        # hasn't sent.
        if candidates and not self.stop:
          self._check_failures(candidates)
        # An engine with `stop` first finishes its requests in flight.
        if self.stop and self.engine.stop is None:
          raise Stopped
    if self.stop:
      raise Stopped
    for k in set(range(len(sources))) - answered:
      yield k, [Candidate(problem="no answer", transient=True)]

  def _check_failures(self, candidates: Sequence[Candidate]) -> None:
    transient = [c.problem for c in candidates if c.transient]
    self._failures = self._failures + 1 if transient else 0
    if self._failures >= MAX_FAILURES:
      raise RunError(
        f"engine {self.engine.name}: {self._failures} problems in a row, the last one: "
        f"{transient[-1]}; check that its server is running, then run the same "
        "command again: the results so far are cached"
      )
