"""Parses chat completions and Retry-After headers of OpenAI-compatible servers."""

import contextlib
import email.utils
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ssljax.augment.engine import TOO_LONG


class Answer(NamedTuple):
  """The content of a completion, or a problem."""

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
    The answer and the numbers of prompt and completion tokens. If the server doesn't
    report them, three characters count as a token.
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
  message = message if isinstance(message, dict) else {}
  text = message.get("content")
  content = text if isinstance(text, str) else ""
  length = sum(len(part["content"]) for part in request["messages"])
  prompt_tokens = _tokens(usage, "prompt_tokens", length)
  completion_tokens = _tokens(usage, "completion_tokens", len(content))
  if choice is None:
    answer = Answer(problem="no choices", transient=True)
  elif choice.get("finish_reason") == "content_filter":
    answer = Answer(problem="content filter")
  elif message.get("refusal"):
    answer = Answer(problem="refusal")
  elif choice.get("finish_reason") == "length":
    # If the answer is shorter than max_tokens, the context length cut it off.
    truncated = completion_tokens >= (request.get("max_tokens") or 0)
    answer = Answer(content, "truncated" if truncated else TOO_LONG)
  elif not isinstance(text, str):
    answer = Answer(problem="no content", transient=True)
  else:
    answer = Answer(content)
  return answer, prompt_tokens, completion_tokens


def _tokens(usage: Any, name: str, characters: int) -> int:
  count = usage.get(name) if isinstance(usage, dict) else None
  return count if isinstance(count, int) and count >= 0 else characters // 3


def retry_after(headers: Mapping[str, str]) -> float:
  """Returns the seconds of a Retry-After header; 0 if it's missing or invalid."""
  value = headers.get("retry-after", "")
  with contextlib.suppress(ValueError):
    return max(0.0, float(value))
  with contextlib.suppress(ValueError):
    date = email.utils.parsedate_to_datetime(value)
    date = date.replace(tzinfo=date.tzinfo or UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
  return 0.0
