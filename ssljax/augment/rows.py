"""Adds views to one shard of rows.

It asks for candidates, cleans and filters them, asks again for rows that lack views,
and gives the fallback to rows that end up without any. The result depends only on the
rows and on the engine's answers. It is the same in the main process, in a worker
process and in Ray.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from ssljax.augment import report, seeded
from ssljax.augment.engine import Answers, Candidate, Source
from ssljax.augment.filters.encoder import EncoderFilter
from ssljax.augment.filters.text import clean, drop_reason, fingerprint
from ssljax.augment.settings import Settings
from ssljax.data.batches import word_noise
from ssljax.data.batches.word_noise import Vocabulary
from ssljax.data.records.schema import SCHEMA

DROPPED = pa.schema(
  {
    "id": pa.large_string(),
    "number": pa.int32(),  # of the candidate, from 0
    "reason": pa.large_string(),
    "text": pa.large_string(),
    "response": pa.large_string(),
    "origin": pa.large_string(),
  }
)


class ShardResult(NamedTuple):
  """A shard with its views, and its part of the report."""

  table: pa.Table  # the rows with their new views
  counts: Counter[str]
  dropped: pa.Table  # of schema DROPPED


def augment_shard(
  table: pa.Table,
  query: Callable[[Sequence[Source], int], Answers],
  settings: Settings,
  origin: str,
  encoder_filters: Mapping[str, EncoderFilter],
  vocabulary: Vocabulary | None = None,
  on_progress: Callable[[int, int], None] = lambda answers, more: None,
) -> ShardResult:
  """Gives each row of `table` up to `settings.views` views of `settings.kind`.

  Args:
    table: rows of SCHEMA; all columns but `views` are returned unchanged.
    query: has the interface of `Engine.make`.
    origin: stored with the new views.
    encoder_filters: a dict; its keys are reasons for dropping views.
    vocabulary: words for the fallback "words".
    on_progress: called as `on_progress(answers, more)`, with the number of new answers
      and the number of additional answers that a retry needs.
  """
  columns = (table[name].to_pylist() for name in Source._fields)
  sources = [Source(*row) for row in zip(*columns, strict=True)]
  before, kind = table["views"].to_pylist(), settings.kind
  kept = [
    [view for view in views or () if not settings.replace or view["kind"] != kind]
    for views in before
  ]
  seen = [
    {fingerprint(v["text"], v["response"]) for v in views if v["kind"] == kind}
    for views in kept
  ]
  accepted: list[list[Candidate]] = [[] for _ in sources]
  unanswered = set()  # rows with a transient problem
  counts, dropped = Counter(texts=len(sources)), []
  secrets = report.secrets()

  def echoes_secret(i: int, view: Candidate) -> bool:
    """Whether a server has put its key, for example, into its answer."""
    return any(
      secret in f"{view.text} {view.response}"
      and secret not in f"{sources[i].text} {sources[i].response}"
      for secret in secrets
    )

  def drop(i: int, number: int, reason: str, view: Candidate) -> None:
    counts[f"dropped: {reason}"] += 1
    # No file can hold lone surrogates; they become question marks.
    text, response = (
      part and part.encode(errors="replace").decode()
      for part in (view.text, view.response)
    )
    row = (sources[i].id, number, reason, text, response, origin)
    dropped.append(dict(zip(DROPPED.names, row, strict=True)))

  pending = list(range(len(sources)))
  for number in range(settings.attempts * settings.views):
    if not pending:
      break
    counts[f"asked for candidate {number + 1}"] += len(pending)
    on_progress(0, len(pending) if number else 0)
    answers = {}  # engines answer in any order
    for k, candidates in query([sources[i] for i in pending], number):
      answers[pending[k]] = candidates
      on_progress(1, 0)
    passed = []  # (row, view) that no filter has dropped yet
    for i in pending:
      for candidate in answers[i]:
        counts["candidates"] += 1
        view, reason = candidate, candidate.problem
        if candidate.transient:
          unanswered.add(i)
        if not reason:
          view = clean(sources[i], candidate)
          reason = drop_reason(sources[i], view, settings)
        if echoes_secret(i, view):
          view, reason = Candidate(), "secret"  # its text must not be stored
        if reason:
          drop(i, number, reason, view)
        else:
          passed.append((i, view))
    for reason, keep in encoder_filters.items():
      if passed:  # the encoder gets a whole shard at once
        is_kept = keep([(sources[i], view) for i, view in passed])
        for i, view in itertools.compress(passed, ~is_kept):
          drop(i, number, reason, view)
        passed = list(itertools.compress(passed, is_kept))
    for i, view in passed:
      if len(accepted[i]) == settings.views:
        counts["not needed"] += 1
      elif (key := fingerprint(view.text, view.response)) in seen[i]:
        drop(i, number, "copy of another view", view)
      else:
        seen[i].add(key)
        accepted[i].append(view)
    # An empty answer means that the text has no more candidates.
    pending = [i for i in pending if answers[i] and len(accepted[i]) < settings.views]

  column = []
  for i, source in enumerate(sources):
    views, maker = accepted[i], origin
    counts["views"] += len(views)
    if not views and seen[i]:
      counts["texts without a further view"] += 1
    elif not views and i in unanswered and len(kept[i]) < len(before[i] or ()):
      # The engine didn't answer: a view of an earlier run is better than a fallback.
      kept[i] = before[i]
      counts["older views kept"] += 1
    elif not views:
      views = _fallback_views(source, settings, vocabulary)
      maker = f"fallback:{settings.fallback}"
      counts["texts without a view"] += 1
      counts["fallbacks"] += len(views)
      counts["without an answer, asked again next time"] += i in unanswered
    elif len(views) < settings.views:
      counts["texts with fewer views than asked for"] += 1
    rows = kept[i] + [
      {"kind": kind, "text": v.text, "response": v.response, "origin": maker}
      for v in views
    ]
    column.append(None if before[i] is None and not rows else rows)
  index, field = SCHEMA.get_field_index("views"), SCHEMA.field("views")
  table = table.set_column(index, field, pa.array(column, field.type))
  return ShardResult(table, +counts, pa.Table.from_pylist(dropped, DROPPED))


def _fallback_views(
  source: Source, settings: Settings, vocabulary: Vocabulary | None
) -> list[Candidate]:
  if settings.fallback == "self":
    return [Candidate(source.text, source.response)]
  if settings.fallback == "none":
    return []
  views = []
  for number in range(settings.views):
    rng = seeded.generator(settings.seed, source.text, number)
    # The response is changed first; in the other order, the draws would differ.
    response = source.response and word_noise.perturb(source.response, rng, vocabulary)
    views.append(Candidate(word_noise.perturb(source.text, rng, vocabulary), response))
  return views
