"""Parses chat completions and Retry-After headers of OpenAI-compatible servers."""

import email.utils
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ssljax.augment.engine import TOO_LONG


class Answer(NamedTuple):
  """The content of a completion, or the problem why there is none."""

  content: str = ""
  problem: str = ""
  transient: bool = False  # whether another request may succeed


def parse_completion(
  content: bytes, request: Mapping[str, Any]
) -> tuple[Answer, int, int]:
  """Parses the body of a response.

  Args:
    request: body of the request, for its `messages` and `max_tokens`.

  Returns:
    The answer and the numbers of prompt and completion tokens. A server that doesn't
    report tokens is charged one for every three characters.
  """
  malformed = Answer(problem="malformed answer", transient=True), 0, 0
  try:
    completion = json.loads(content)
    choices = completion["choices"]
    usage = completion.get("usage") or {}
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    return malformed
  choice = choices[0] if isinstance(choices, list) and choices else None
  if not isinstance(choice, dict | None):
    return malformed
  message = choice.get("message") if choice else None
  text = message.get("content") if isinstance(message, dict) else None
  length = sum(len(part["content"]) for part in request["messages"])
  prompt_tokens = _tokens(usage, "prompt_tokens", length)
  length = len(text) if isinstance(text, str) else 0
  completion_tokens = _tokens(usage, "completion_tokens", length)
  if choice is None:
    answer = Answer(problem="no choices", transient=True)
  elif choice.get("finish_reason") == "content_filter":
    answer = Answer(problem="content filter")
  elif isinstance(message, dict) and message.get("refusal"):
    answer = Answer(problem="refusal")
  elif choice.get("finish_reason") == "length":
    # An answer shorter than max_tokens was cut off by the server's context length.
    truncated = completion_tokens >= (request.get("max_tokens") or 0)
    problem = "truncated" if truncated else TOO_LONG
    answer = Answer(text if isinstance(text, str) else "", problem)
  elif not isinstance(text, str):
    answer = Answer(problem="no content", transient=True)
  else:
    answer = Answer(text)
  return answer, prompt_tokens, completion_tokens


def _tokens(usage: Any, name: str, characters: int) -> int:
  count = usage.get(name) if isinstance(usage, dict) else None
  return count if isinstance(count, int) and count >= 0 else characters // 3


def retry_after(headers: Mapping[str, str]) -> float:
  """Seconds in a Retry-After header, a number or a date; 0 without a valid one."""
  value = headers.get("retry-after", "")
  try:
    return max(0.0, float(value))
  except ValueError:
    pass
  try:
    date = email.utils.parsedate_to_datetime(value)
  except ValueError:
    return 0.0
  if date.tzinfo is None:
    date = date.replace(tzinfo=UTC)
  return max(0.0, (date - datetime.now(UTC)).total_seconds())
