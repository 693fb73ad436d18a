"""Renders texts, their views and dropped candidates as one self-contained HTML page.

Texts are untrusted: markup is escaped, and so are invisible and control characters. The
page can be read without scripts. Its only script searches the page and folds texts; the
page's policy allows no other script and no network.
"""

import base64
import hashlib
import importlib.resources
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssljax.augment import decisions, report, view_sample
from ssljax.augment.engine import Candidate, Source
from ssljax.augment.settings import KEYS, KIND
from ssljax.augment.view_diff import Parts, diff
from ssljax.augment.view_sample import DroppedSample, Sample
from ssljax.evals.classification import HARMFUL
from ssljax.evals.report.html import VIEWS, render

MAX_CHARACTERS = 10_000  # of a text or response on the page
MAX_DROPPED = 12  # candidates of one text
FILTERS = (
  *("least_ratio", "most_ratio", "most_alike", "least_similarity", "language"),
  *("keep_questions", "label_check"),
)


class Pair(NamedTuple):
  """A text beside a view or a dropped candidate of it."""

  kind: str
  origin: str
  decision: str  # a word: kept, fallback, unknown or dropped
  reason: str  # why a candidate was dropped
  number: int  # of a candidate, from 1
  explanation: str
  sides: list[tuple[Parts, Parts]]  # of the text, and of the response if there is one


class Entry(NamedTuple):
  """A text with its views and dropped candidates."""

  id: str
  label: str
  about: str  # category and source
  characters: int
  summary: str
  decisions: list[str]
  folded: bool
  views: Sequence[Pair]
  dropped: Sequence[Pair]
  reasons: str  # why all its candidates were dropped, counted
  left_out: int  # dropped candidates of the text that aren't shown


def render_page(
  folder: Path,
  split: str,
  kind: str,
  paths: Sequence[Path],
  sample: Sample,
  number: int,
  seed: int,
) -> str:
  """Renders a page about a sample of a split.

  Args:
    folder: dataset folder.
    kind: the only kind that is shown; "" if all are.
    paths: Parquet files of the split.
    sample: of rows with views.
    number: how many dropped candidates of other rows to show, for each kind.
    seed: of the draws.
  """
  labels = _label_names(folder)
  rows = {row["id"]: row for row in sample.rows}
  shown = list(dict.fromkeys(v["kind"] for row in sample.rows for v in row["views"]))
  reports = {kind: _read_report(folder, kind) for kind in shown}
  dropped = {
    kind: _sample_dropped(folder, kind, reports[kind], paths, [*rows], number, seed)
    for kind in shown
  }
  others = [c["id"] for sampled in dropped.values() for c in sampled.drawn]
  rows |= view_sample.find_rows(paths, [id for id in others if id not in rows])
  entries = []
  for row in sample.rows:
    pairs = [_view_pair(row, view, reports[view["kind"]]) for view in row["views"]]
    candidates = [
      _dropped_pair(row, kind, c, reports[kind])
      for kind in shown
      for c in dropped[kind].of_rows.get(row["id"], ())
    ]
    entries.append(_entry(row, labels, pairs, candidates))
  sections = [
    _section(kind, reports[kind], dropped[kind], rows, labels, sample) for kind in shown
  ]
  script = importlib.resources.files("ssljax.evals.report") / "templates" / "views.js"
  code = script.read_text(encoding="utf-8")
  return render(
    "views.html",
    title=escape_invisible(f"{VIEWS}{folder.name}, {split}"),
    split=split,
    only=kind,
    sample=sample,
    seed=seed,
    two_classes=len(labels) == 2,
    harmful=labels[HARMFUL] if len(labels) == 2 else "",
    entries=entries,
    sections=sections,
    decisions=list(dict.fromkeys(_all_decisions(entries, sections))),
    visible=escape_invisible,
    script=code,
    script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
  )


def escape_invisible(text: str) -> str:
  """Escapes characters that are invisible or control a terminal, except newlines."""
  return "".join(
    c if c == "\n" or c.isprintable() else f"\\u{ord(c):04x}"
    for c in text.replace("\r\n", "\n").replace("\t", "  ")
  )


def _label_names(folder: Path) -> list[str]:
  """The class names in dataset.json; [] if it has none."""
  try:
    about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    return [str(name) for name in about["labels"]]
  except (OSError, ValueError, KeyError, TypeError):
    return []


def _read_report(folder: Path, kind: str) -> dict[str, Any]:
  # A kind that another program wrote may not be the name of a file.
  return report.read(folder, kind) if KIND.fullmatch(kind) else {}


def _sample_dropped(
  folder: Path,
  kind: str,
  about: Mapping[str, Any],
  paths: Sequence[Path],
  ids: Sequence[str],
  number: int,
  seed: int,
) -> DroppedSample:
  path = folder / report.FOLDER / f"{kind}-dropped.parquet"
  if not KIND.fullmatch(kind):
    return DroppedSample({}, [], Counter())
  splits = about.get("config", {}).get("splits", ())
  split = view_sample.read_ids(paths) if len(splits) > 1 else None
  return view_sample.sample_dropped(path, ids, number, seed, split)


def _entry(
  row: Mapping[str, Any],
  labels: Sequence[str],
  views: Sequence[Pair],
  candidates: Sequence[Pair],
) -> Entry:
  label, name = row["label"], row["label_name"]
  if label is None:
    name = "unlabelled"
  elif not name:
    name = labels[label] if label < len(labels) else f"class {label}"
  about = [f"{key}: {row[key]}" for key in ("category", "source") if row[key]]
  return Entry(
    id=row["id"] or "",
    label=name,
    about=", ".join(about),
    characters=len(row["text"] or "") + len(row["response"] or ""),
    summary=_summary([*views, *candidates]),
    decisions=list(dict.fromkeys(pair.decision for pair in (*views, *candidates))),
    # Only the texts of class 0 of two classes are known to be harmless.
    folded=not (len(labels) == 2 and label is not None and label != HARMFUL),
    views=views,
    dropped=candidates[:MAX_DROPPED],
    reasons=_counted(pair.reason for pair in candidates),
    left_out=len(candidates[MAX_DROPPED:]),
  )


def _view_pair(
  row: Mapping[str, Any], view: Mapping[str, Any], about: Mapping[str, Any]
) -> Pair:
  word, explanation = decisions.decision(view["origin"], about)
  sides = _sides(row, view)
  return Pair(view["kind"], view["origin"] or "", word, "", 0, explanation, sides)


def _dropped_pair(
  row: Mapping[str, Any],
  kind: str,
  candidate: Mapping[str, Any],
  about: Mapping[str, Any],
) -> Pair:
  config = about.get("config", {})
  if candidate["origin"] != about.get("origin"):
    config = {}  # the limits of another run
  view = Candidate(candidate["text"] or "", candidate["response"])
  source = Source(row["id"], row["text"], row["response"])
  reason, number = candidate["reason"], candidate["number"] + 1
  explanation = decisions.explain_drop(reason, source, view, config)
  sides = _sides(row, candidate)
  origin = candidate["origin"]
  return Pair(kind, origin, "dropped", reason, number, explanation, sides)


def _summary(pairs: Sequence[Pair]) -> str:
  """Such as "eda: 1 kept, 2 dropped; llm: 1 fallback"."""
  kinds: dict[str, list[str]] = {}
  for pair in pairs:
    kinds.setdefault(pair.kind, []).append(pair.decision)
  return "; ".join(f"{kind}: {_counted(words)}" for kind, words in kinds.items())


def _counted(words: Iterable[str]) -> str:
  return ", ".join(f"{number} {word}" for word, number in Counter(words).items())


def _sides(row: Mapping[str, Any], view: Mapping[str, Any]) -> list:
  """The parts of text and view, and of both responses if there are any."""
  names = ["text"]
  if row["response"] is not None or view["response"] is not None:
    names.append("response")
  return [diff(_cut(row[name] or ""), _cut(view[name] or "")) for name in names]


def _cut(text: str) -> str:
  more = len(text) - MAX_CHARACTERS
  return text if more <= 0 else f"{text[:MAX_CHARACTERS]} … ({more:,} more characters)"


def _section(
  kind: str,
  about: Mapping[str, Any],
  dropped: DroppedSample,
  rows: Mapping[str, Mapping[str, Any]],
  labels: Sequence[str],
  sample: Sample,
) -> dict[str, Any]:
  """The counts and filters of a kind, and a sample of its dropped candidates."""
  reasons: dict[str, list[Entry]] = {}
  for candidate in dropped.drawn:
    if row := rows.get(candidate["id"]):
      pair = _dropped_pair(row, kind, candidate, about)
      reasons.setdefault(candidate["reason"], []).append(
        _entry(row, labels, [], [pair])
      )
  of_rows = sum(map(len, dropped.of_rows.values()))
  config = about.get("config", {})
  return {
    "kind": kind,
    "views": sample.kinds[kind],
    "counts": about.get("counts", {}),
    "filters": [
      (key, config[key], KEYS[key].meaning) for key in FILTERS if config.get(key)
    ],
    "by_reason": dropped.by_reason.most_common(),
    "dropped": dropped.by_reason.total(),
    "shown": of_rows + sum(map(len, reasons.values())),
    "reasons": reasons,
  }


def _all_decisions(
  entries: Sequence[Entry], sections: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
  for entry in entries:
    yield from entry.decisions
  for section in sections:
    for sampled in section["reasons"].values():
      for entry in sampled:
        yield from entry.decisions
