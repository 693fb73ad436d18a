"""Views for the rows of one shard: ask, tidy, judge, ask again, fall back.

A pure function of the rows and of what the engine answers, whoever runs it: the local
loop, one of its processes, or Ray.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ssljax.augment import seeded
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.filters import text as filters
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
Pairs = Sequence[tuple[Source, Candidate]]


class Judge(NamedTuple):
  """What costs an encoder: bool [n] for pairs of a source and a view, True is good."""

  similar: Callable[[Pairs], np.ndarray] | None = None
  same_label: Callable[[Pairs], np.ndarray] | None = None


class Made(NamedTuple):
  table: pa.Table  # the rows with their new views
  counts: Counter
  dropped: pa.Table  # of DROPPED


def shard(
  table: pa.Table,
  ask: Callable[[Sequence[Source], int], Iterable[tuple[int, Sequence[Candidate]]]],
  settings: Settings,
  origin: str,
  judge: Judge = Judge(),  # noqa: B008 (a tuple)
  known: Vocabulary | None = None,
  tick: Callable[[int, int], None] = lambda answers, more: None,
) -> Made:
  """Gives each row of `table` up to `settings.views` views of `settings.kind`.

  Args:
    table: rows of SCHEMA; all columns but `views` come back as they are.
    ask: as `Engine.make`.
    origin: of the views that are made.
    known: words for the fallback "words".
    tick: called with the number of answers that came, and of those that are awaited
      beyond the first one of each text.
  """
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
      filters.fingerprint(Candidate(v["text"], v["response"]))
      for v in views
      if v["kind"] == settings.kind
    }
    for views in kept
  ]
  accepted: list[list[Candidate]] = [[] for _ in sources]
  passing: set[int] = set()  # had a problem that may pass
  counts: Counter[str] = Counter(texts=len(sources))
  dropped: list[dict] = []

  def drop(i: int, number: int, reason: str, view: Candidate) -> None:
    counts[f"dropped: {reason}"] += 1
    text, response = _writable(view.text), _writable(view.response)
    row = (sources[i].id, number, reason, text, response, origin)
    dropped.append(dict(zip(DROPPED.names, row, strict=True)))

  has = [bool(own) for own in seen]
  wanting = list(range(len(sources)))
  for number in range(settings.attempts * settings.views):
    if not wanting:
      break
    counts[f"asked for candidate {number + 1}"] += len(wanting)
    found, exhausted = [], set()
    tick(0, len(wanting) if number else 0)
    for k, candidates in ask([sources[i] for i in wanting], number):
      found.append((wanting[k], candidates))
      if not candidates:
        exhausted.add(wanting[k])
      tick(1, 0)
    found.sort(key=lambda pair: pair[0])  # engines answer in any order
    cheap = []
    for i, candidates in found:
      for candidate in candidates:
        counts["candidates"] += 1
        if candidate.problem:
          drop(i, number, candidate.problem, candidate)
          if candidate.passing:
            passing.add(i)
          continue
        view = filters.tidy(sources[i], candidate)
        reason = filters.reason(sources[i], view, settings)
        if reason:
          drop(i, number, reason, view)
        else:
          cheap.append((i, view))
    for i, view, reason in _judged(sources, cheap, judge):
      if reason:
        drop(i, number, reason, view)
      elif len(accepted[i]) == settings.views:
        counts["not needed"] += 1
      elif (print_ := filters.fingerprint(view)) in seen[i]:
        drop(i, number, "copy of another view", view)
      else:
        seen[i].add(print_)
        accepted[i].append(view)
    wanting = [
      i for i in wanting if len(accepted[i]) < settings.views and i not in exhausted
    ]

  views = []
  for i, source in enumerate(sources):
    made = [(view, origin) for view in accepted[i]]
    counts["views"] += len(made)
    if not made and has[i]:
      counts["texts without a further view"] += 1
    elif not made and i in passing and len(kept[i]) < len(before[i]):
      # Nobody said no: what an earlier run has made is better than a fallback.
      kept[i] = before[i]
      counts["older views kept"] += 1
    elif not made:
      made = _fallback(source, settings, known)
      counts["texts without a view"] += 1
      counts["fallbacks"] += len(made)
      counts["without an answer, asked again next time"] += i in passing
    elif len(made) < settings.views:
      counts["texts with fewer views than asked for"] += 1
    views.append(
      kept[i]
      + [
        {"kind": settings.kind, "text": v.text, "response": v.response, "origin": o}
        for v, o in made
      ]
    )
  return Made(
    _with_views(table, views), +counts, pa.Table.from_pylist(dropped, DROPPED)
  )


def _judged(
  sources: Sequence[Source], cheap: list[tuple[int, Candidate]], judge: Judge
) -> list[tuple[int, Candidate, str]]:
  """(row, view, why it is dropped or ""): a whole shard goes to the encoder at once."""
  reasons = [""] * len(cheap)
  for good, name in ((judge.similar, "not similar"), (judge.same_label, "label flips")):
    left = [k for k, reason in enumerate(reasons) if not reason]
    if good is None or not left:
      continue
    pairs = [(sources[cheap[k][0]], cheap[k][1]) for k in left]
    for k, fine in zip(left, good(pairs), strict=True):
      reasons[k] = "" if fine else name
  return [(i, v, reason) for (i, v), reason in zip(cheap, reasons, strict=True)]


def _fallback(
  source: Source, settings: Settings, known: Vocabulary | None
) -> list[tuple[Candidate, str]]:
  origin = f"fallback:{settings.fallback}"
  if settings.fallback == "self":
    return [(Candidate(source.text, source.response), origin)]
  if settings.fallback == "none":
    return []
  made = []
  for view in range(settings.views):
    rng = seeded.generator(settings.seed, source.text, view)
    response = source.response and word_noise.perturb(source.response, rng, known)
    made.append(
      (Candidate(word_noise.perturb(source.text, rng, known), response), origin)
    )
  return made


def _with_views(table: pa.Table, views: list[list[dict]]) -> pa.Table:
  place = table.schema.get_field_index("views")
  field = table.schema.field(place)
  valid = table["views"].is_valid().to_pylist()
  values = [v if v or was else None for v, was in zip(views, valid, strict=True)]
  return table.set_column(place, field, pa.array(values, field.type))


def _writable(text: str | None) -> str | None:
  """Half a surrogate pair, that no file can hold, becomes a question mark."""
  return text and text.encode(errors="replace").decode()
