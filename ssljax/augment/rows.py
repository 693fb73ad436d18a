"""Adds views to one shard of rows: query, clean, filter, retry, fall back.

The result depends only on the rows and on the engine's answers, whether the shard runs
in this process, in a worker process or in Ray.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

from ssljax.augment import seeded
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.filters import text as text_filters
from ssljax.augment.filters.encoder import EncoderFilters
from ssljax.augment.settings import Settings
from ssljax.data.batches import word_noise
from ssljax.data.batches.word_noise import Vocabulary

DROPPED = pa.schema(
  [
    ("id", pa.large_string()),
    ("number", pa.int32()),  # of the candidate, from 0
    ("reason", pa.large_string()),
    ("text", pa.large_string()),
    ("response", pa.large_string()),
    ("origin", pa.large_string()),
  ]
)


class ShardResult(NamedTuple):
  """A shard with its views, and what the report says about it."""

  table: pa.Table  # the rows with their new views
  counts: Counter[str]
  dropped: pa.Table  # of schema DROPPED


def augment_shard(
  table: pa.Table,
  query: Callable[[Sequence[Source], int], Iterable[tuple[int, Sequence[Candidate]]]],
  settings: Settings,
  origin: str,
  encoder_filters: EncoderFilters = EncoderFilters(),  # noqa: B008 (a tuple)
  vocabulary: Vocabulary | None = None,
  on_progress: Callable[[int, int], None] | None = None,
) -> ShardResult:
  """Gives each row of `table` up to `settings.views` views of `settings.kind`.

  Args:
    table: rows of SCHEMA; all columns but `views` are returned unchanged.
    query: as `Engine.make`.
    origin: stored with the new views.
    vocabulary: words for the fallback "words".
    on_progress: called with the number of new answers, and the number of further
      answers that a retry waits for.
  """
  on_progress = on_progress or (lambda answers, more: None)
  sources = [
    Source(*row)
    for row in zip(
      *(table[name].to_pylist() for name in ("id", "text", "response")), strict=True
    )
  ]
  before = [views or [] for views in table["views"].to_pylist()]
  kept = [
    [v for v in views if not settings.replace or v["kind"] != settings.kind]
    for views in before
  ]
  seen = [
    {
      text_filters.fingerprint(Candidate(v["text"], v["response"]))
      for v in views
      if v["kind"] == settings.kind
    }
    for views in kept
  ]
  had_views = [bool(fingerprints) for fingerprints in seen]
  accepted: list[list[Candidate]] = [[] for _ in sources]
  unanswered: set[int] = set()  # rows with a transient problem
  counts: Counter[str] = Counter(texts=len(sources))
  dropped: list[dict] = []

  def drop(i: int, number: int, reason: str, view: Candidate) -> None:
    counts[f"dropped: {reason}"] += 1
    text, response = _encodable(view.text), _encodable(view.response)
    row = (sources[i].id, number, reason, text, response, origin)
    dropped.append(dict(zip(DROPPED.names, row, strict=True)))

  pending = list(range(len(sources)))
  for number in range(settings.attempts * settings.views):
    if not pending:
      break
    counts[f"asked for candidate {number + 1}"] += len(pending)
    answers, exhausted = [], set()
    on_progress(0, len(pending) if number else 0)
    for k, candidates in query([sources[i] for i in pending], number):
      answers.append((pending[k], candidates))
      if not candidates:
        exhausted.add(pending[k])
      on_progress(1, 0)
    answers.sort(key=lambda pair: pair[0])  # engines answer in any order
    passed = []  # the text filters
    for i, candidates in answers:
      for candidate in candidates:
        counts["candidates"] += 1
        if candidate.problem:
          drop(i, number, candidate.problem, candidate)
          if candidate.transient:
            unanswered.add(i)
          continue
        view = text_filters.clean(sources[i], candidate)
        reason = text_filters.drop_reason(sources[i], view, settings)
        if reason:
          drop(i, number, reason, view)
        else:
          passed.append((i, view))
    reasons = _encoder_reasons(sources, passed, encoder_filters)
    for (i, view), reason in zip(passed, reasons, strict=True):
      if reason:
        drop(i, number, reason, view)
      elif len(accepted[i]) == settings.views:
        counts["not needed"] += 1
      elif (fingerprint := text_filters.fingerprint(view)) in seen[i]:
        drop(i, number, "copy of another view", view)
      else:
        seen[i].add(fingerprint)
        accepted[i].append(view)
    pending = [
      i for i in pending if len(accepted[i]) < settings.views and i not in exhausted
    ]

  views = []
  for i, source in enumerate(sources):
    new = [(view, origin) for view in accepted[i]]
    counts["views"] += len(new)
    if not new and had_views[i]:
      counts["texts without a further view"] += 1
    elif not new and i in unanswered and len(kept[i]) < len(before[i]):
      # The engine didn't answer: a view of an earlier run is better than a fallback.
      kept[i] = before[i]
      counts["older views kept"] += 1
    elif not new:
      new = _fallback_views(source, settings, vocabulary)
      counts["texts without a view"] += 1
      counts["fallbacks"] += len(new)
      counts["without an answer, asked again next time"] += i in unanswered
    elif len(new) < settings.views:
      counts["texts with fewer views than asked for"] += 1
    views.append(
      kept[i]
      + [
        {"kind": settings.kind, "text": v.text, "response": v.response, "origin": o}
        for v, o in new
      ]
    )
  return ShardResult(
    _with_views(table, views), +counts, pa.Table.from_pylist(dropped, DROPPED)
  )


def _encoder_reasons(
  sources: Sequence[Source],
  passed: Sequence[tuple[int, Candidate]],
  filters: EncoderFilters,
) -> list[str]:
  """Why each view is dropped, or ""; the encoder gets a whole shard at once."""
  reasons = [""] * len(passed)
  for keep, reason in (
    (filters.similar, "not similar"),
    (filters.same_label, "label flips"),
  ):
    remaining = [k for k, dropped in enumerate(reasons) if not dropped]
    if keep is None or not remaining:
      continue
    pairs = [(sources[passed[k][0]], passed[k][1]) for k in remaining]
    for k, kept in zip(remaining, keep(pairs), strict=True):
      reasons[k] = "" if kept else reason
  return reasons


def _fallback_views(
  source: Source, settings: Settings, vocabulary: Vocabulary | None
) -> list[tuple[Candidate, str]]:
  """(view, origin) of each."""
  origin = f"fallback:{settings.fallback}"
  if settings.fallback == "self":
    return [(Candidate(source.text, source.response), origin)]
  if settings.fallback == "none":
    return []
  views = []
  for number in range(settings.views):
    rng = seeded.generator(settings.seed, source.text, number)
    # The response draws first; another order would give other views.
    response = source.response and word_noise.perturb(source.response, rng, vocabulary)
    text = word_noise.perturb(source.text, rng, vocabulary)
    views.append((Candidate(text, response), origin))
  return views


def _with_views(table: pa.Table, views: Sequence[list[dict]]) -> pa.Table:
  index = table.schema.get_field_index("views")
  field = table.schema.field(index)
  valid = table["views"].is_valid().to_pylist()
  values = [v if v or was else None for v, was in zip(views, valid, strict=True)]
  return table.set_column(index, field, pa.array(values, field.type))


def _encodable(text: str | None) -> str | None:
  """Replaces lone surrogates, which no file can hold, by question marks."""
  return text and text.encode(errors="replace").decode()
