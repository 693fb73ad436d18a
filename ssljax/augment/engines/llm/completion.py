"""Parses chat completions and Retry-After headers of OpenAI-compatible servers."""

import contextlib
import json
import time
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz
from typing import Any

from ssljax.augment.engine import TOO_LONG, Candidate


def parse_completion(content: bytes, request: dict) -> tuple[Candidate, int, int]:
  """Parses the body of a response.

  Args:
    request: body of the request; only its `messages` and `max_tokens` are used.

  Returns:
    Three values: a candidate whose text is the answer, the number of prompt tokens, and
    the number of completion tokens. If the server doesn't report these numbers, they
    are estimated as one token per three characters.
  """
  try:
    completion = json.loads(content)
    usage = completion.get("usage")
    choice = (completion["choices"] or [None])[0] or None
    message = (choice or {}).get("message") or {}
    text, refusal = message.get("content"), message.get("refusal")
  except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
    return Candidate(problem="malformed answer", transient=True), 0, 0
  answer = text if isinstance(text, str) else ""
  length = sum(len(turn["content"]) for turn in request["messages"])
  prompt_tokens = _tokens(usage, "prompt_tokens", length)
  completion_tokens = _tokens(usage, "completion_tokens", len(answer))
  if choice is None:
    candidate = Candidate(problem="no choices", transient=True)
  elif choice.get("finish_reason") == "content_filter":
    candidate = Candidate(problem="content filter")
  elif refusal:
    candidate = Candidate(problem="refusal")
  elif choice.get("finish_reason") == "length":
    # If the answer is shorter than max_tokens, the context length cut it off.
    truncated = completion_tokens >= (request.get("max_tokens") or 0)
    candidate = Candidate(answer, problem="truncated" if truncated else TOO_LONG)
  elif not isinstance(text, str):
    candidate = Candidate(problem="no content", transient=True)
  else:
    candidate = Candidate(answer)
  return candidate, prompt_tokens, completion_tokens


def _tokens(usage: Any, name: str, characters: int) -> int:
  count = usage.get(name) if isinstance(usage, dict) else None
  return count if isinstance(count, int) and count >= 0 else characters // 3


def retry_after(headers: Mapping[str, str]) -> float:
  """Returns the seconds in a Retry-After header; 0 if it's missing or invalid."""
  value = headers.get("retry-after", "")
  with contextlib.suppress(ValueError):
    return max(0.0, float(value))
  with contextlib.suppress(ValueError, OverflowError):
    if date := parsedate_tz(value):
      return max(0.0, mktime_tz(date) - time.time())
  return 0.0
