"""Explains why a view was kept and why a candidate was dropped, in plain sentences.

What can be measured again without a model, such as lengths, is stated with its limit.
"""

from collections.abc import Mapping
from typing import Any

from rapidfuzz.distance import Indel

from ssljax.augment.engine import Candidate, Source
from ssljax.augment.filters.text import changed_parts, normalized

FALLBACK = "fallback:"  # begins the origin of a fallback
# Reasons that need no number; `explain_drop` handles the others.
REASONS = {
  "empty": "It has no letter or digit, or the engine returned no text.",
  "malformed": "It has a null character or half a surrogate pair.",
  "markup": "It has chat markup, such as a control token or a turn of a conversation, "
  "that the text doesn't have.",
  "secret": "It contained a secret from the environment, so its text isn't stored.",
  "refusal": "It begins like a refusal.",
  "meta-talk": "It talks about the rewriting itself.",
  "identical": "It equals the text, apart from white space and the form of accents.",
  "no question": "The text ends with a question mark, and the candidate has none.",
  "copy of another view": "It equals another view of the text.",
  "label flips": "A trained model predicts another class for it than for the text.",
  "markers": "It repeats the lines that enclose the text in the prompt.",
}


def explain_drop(
  reason: str, source: Source, view: Candidate, config: Mapping[str, Any]
) -> str:
  """Explains a reason for which a candidate was dropped.

  Args:
    reason: as stored with the dropped candidate.
    config: of the run that dropped it; {} if it's unknown.

  Returns:
    A sentence; for a reason of an engine, one that says so.
  """

  def limit(key: str) -> str:
    value = config.get(key)
    is_known = isinstance(value, int | float)
    return f"; the limit is {value:.0%} ({key})" if is_known else ""

  parts = changed_parts(source, view)
  if reason == "near-identical":
    shares = [
      Indel.normalized_similarity(normalized(old), normalized(new))
      for old, new, _ in parts
    ]
    share = max(shares, default=1.0)
    return (
      f"It shares {share:.1%} of its characters with the text{limit('most_alike')}."
    )
  if reason in ("too short", "too long"):
    ratios = [len(new) / len(old) for old, new, _ in parts if old]
    ratio = (min if reason == "too short" else max)(ratios, default=0.0)
    key = "least_ratio" if reason == "too short" else "most_ratio"
    return f"Its length is {ratio:.0%} of the text's length{limit(key)}."
  if reason == "not similar":
    too_low = "The cosine between its embedding and the text's is too low"
    return f"{too_low}{limit('least_similarity')}."
  if reason == "other language":
    language = config.get("language")
    known = language and language != "same"
    expected = f"{language!r}, as the config requires" if known else "the text's"
    return f"Its language isn't {expected}."
  return REASONS.get(reason, "The engine gave this reason.")


def decision(origin: str | None, report: Mapping[str, Any]) -> tuple[str, str]:
  """Says in one word, and in a sentence, why a view is in the dataset.

  Args:
    origin: of the view.
    report: about views of its kind; {} if there is none.

  Returns:
    "kept", "fallback" or "unknown", and the sentence.
  """
  origin = origin or ""
  if origin == f"{FALLBACK}self":
    return "fallback", "No candidate passed the filters, so the text is its own view."
  if origin.startswith(FALLBACK):
    how = "words of the text were changed at random"
    return "fallback", f"No candidate passed the filters, so {how}."
  if origin == report.get("origin"):
    return "kept", "The candidate passed all filters."
  if origin in report.get("origins", {}):
    return "kept", "The candidate passed the filters of an earlier run."
  return "unknown", "No report says how this view was made."
