"""Asks an engine for what the cache does not have, and knows when to give up."""

from collections import Counter
from collections.abc import Iterator, Sequence

from ssljax.augment import cache as results
from ssljax.augment.cache import Cache
from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.errors import RunError
from ssljax.runtime.signals import StopSignals

CONSECUTIVE = 20  # problems that may pass, one after another: the server is gone


class Stopped(Exception):
  """The user asked to stop, and what was in flight has come in."""


class Asker:
  """`asker(sources, number)` yields as an engine's `make` does, each i once."""

  def __init__(
    self,
    engine: Engine,
    cache: Cache | None = None,
    stop: StopSignals | None = None,
  ):
    """Asks `engine`.

    Args:
      cache: None for an engine that is quicker than a look-up.
      stop: true once the user has asked to stop.
    """
    self.engine, self.cache, self.stop = engine, cache, stop
    self.counts: Counter[str] = Counter()
    self._row = 0  # problems that may pass, since the last result

  def __call__(
    self, sources: Sequence[Source], number: int
  ) -> Iterator[tuple[int, Sequence[Candidate]]]:
    """As `Engine.make`.

    Raises:
      RunError: CONSECUTIVE problems that may pass.
      Stopped: once `stop` is true.
    """
    if self.cache is None:
      yield from self._ask(sources, number)
      return
    same: dict[bytes, list[int]] = {}  # rows of one text ask once
    for i, source in enumerate(sources):
      same.setdefault(results.key(self.engine, source, number), []).append(i)
    missing = []
    for name, rows in same.items():
      found = self.cache.get(name)
      if found is None:
        missing.append(name)
        continue
      self.counts["answers from the cache"] += 1
      for i in rows:
        yield i, found
    asked = [sources[same[name][0]] for name in missing]
    for k, candidates in self._ask(asked, number):
      self.cache.put(missing[k], self.engine.name, candidates)
      for i in same[missing[k]]:
        yield i, candidates

  def close(self) -> None:
    if self.cache is not None:
      self.cache.close()

  def _ask(
    self, sources: Sequence[Source], number: int
  ) -> Iterator[tuple[int, Sequence[Candidate]]]:
    if self.stop:
      raise Stopped
    if not sources:
      return
    answers = self.engine.make(sources, number)
    seen = set()
    try:
      for k, candidates in answers:
        seen.add(k)
        self.counts["answers of the engine"] += 1
        yield k, candidates
        self._count(candidates)
        # An engine that can finish what is in flight is told by the signal, and ends.
        if self.stop and self.engine.stop is None:
          raise Stopped
    finally:
      if hasattr(answers, "close"):
        answers.close()
    if self.stop:
      raise Stopped
    for k in range(len(sources)):
      if k not in seen:
        yield k, [Candidate(problem="no answer", passing=True)]

  def _count(self, candidates: Sequence[Candidate]) -> None:
    if self.stop:  # what was never asked comes back as a problem, too
      return
    if not candidates:  # nothing more of this text says nothing of the engine
      return
    passing = [c.problem for c in candidates if c.passing]
    self._row = self._row + 1 if passing else 0
    if self._row >= CONSECUTIVE:
      raise RunError(
        f"engine {self.engine.name}: {self._row} problems one after another, the last "
        f"was: {passing[-1]}; see that what it talks to is up and answers, then run "
        "the same command again: what has come is kept and is not asked again"
      )
