"""Asks a chat endpoint: retries, budgets, and what it all came to.

`Client` holds what several sessions share (budgets, counts, failures in a row); a
session is one event loop's connections. The openai client sends the requests, with its
own retries switched off so that every request is counted.
"""

import asyncio
import collections
import contextlib
import email.utils
import json
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ssljax.augment.engine import TOO_LONG
from ssljax.errors import RunError, UserError

BASE, LONGEST = 1.0, 60.0  # seconds: first wait before a retry, longest of them
PATIENCE = 300.0  # a server that asks for a longer pause than this has failed
UNPROVEN = 2  # retries while nothing has ever answered: more likely a wrong address
SILENCE = ("no connection", "timed out")
NOTHING = ("malformed answer", "no choices", "no content")


STOPPED = "stopped"


class Answer(NamedTuple):
  """What came of one request, retries included: content, or a problem.

  The problem STOPPED says nothing of the text: the run ends before it was answered.
  """

  content: str = ""
  problem: str = ""
  passing: bool = False


class Limits(NamedTuple):
  concurrency: int
  timeout: float  # seconds, from the request to the whole answer
  retries: int
  failures: int  # in a row, before the run stops
  request_budget: int  # 0: none
  token_budget: int  # of both kinds; 0: none
  price_in: float  # per million tokens
  price_out: float


class Client:
  """One endpoint with its limits; `session()` gives `ask`."""

  def __init__(self, base_url: str, key: str, key_env: str, limits: Limits):
    self.base_url, self.key, self.key_env, self.limits = base_url, key, key_env, limits
    self.retries: collections.Counter[str] = collections.Counter()  # by cause
    self.requests = self.prompt_tokens = self.completion_tokens = 0
    self.failures = 0  # requests in a row of which nothing came, retries included
    self.answered = False
    self.flying = 0  # requests on their way now
    self.seconds = self.full_seconds = 0.0  # from the first request to the last answer
    self._since: float | None = None  # when these were last brought up to date
    self._not_before = 0.0  # the server asked for quiet until then
    self._last_words = ""  # of a refusal
    self.stopped = False
    self._wake: Callable[[], None] = lambda: None

  def stop(self) -> None:
    """Sends nothing more; what is on its way comes in. May be a signal's handler."""
    self.stopped = True
    with contextlib.suppress(RuntimeError):  # the loop has just ended
      self._wake()

  def usage(self) -> dict[str, float]:
    """Counts since the start; `full` is the share of the time with no slot idle."""
    limits = self.limits
    cost = self.prompt_tokens * limits.price_in
    cost += self.completion_tokens * limits.price_out
    return {
      "requests": self.requests,
      **{f"retries: {cause}": n for cause, n in sorted(self.retries.items())},
      "prompt_tokens": self.prompt_tokens,
      "completion_tokens": self.completion_tokens,
      **({"cost": cost / 1e6} if limits.price_in or limits.price_out else {}),
      "seconds": self.seconds,
      "full": self.full_seconds / self.seconds if self.seconds else 0.0,
    }

  @contextlib.asynccontextmanager
  async def session(self) -> AsyncIterator[Callable[[dict], Awaitable[Answer]]]:
    """Connections for one event loop; yields `ask(body) -> Answer`."""
    import openai

    # A proxy of the environment is for the world outside, not for this machine.
    local = urlsplit(self.base_url).hostname in ("127.0.0.1", "localhost", "::1")
    async with (
      openai.DefaultAsyncHttpxClient(trust_env=not local) as http,
      openai.AsyncOpenAI(
        base_url=self.base_url,
        api_key=self.key or "none",  # servers of one's own want none, the client does
        max_retries=0,
        timeout=self.limits.timeout,
        http_client=http,
      ) as connection,
    ):
      stopping = asyncio.Event()
      loop = asyncio.get_running_loop()
      self._wake = lambda: loop.call_soon_threadsafe(stopping.set)
      try:
        yield lambda body: self._ask(connection, stopping, body)
      finally:
        self._wake = lambda: None

  async def _ask(
    self, connection: Any, stopping: asyncio.Event, body: Mapping[str, Any]
  ) -> Answer:
    """Sends until there is an answer, or no hope of one.

    Raises:
      UserError: a budget is spent, the endpoint refuses for good, or nothing has come
        of several requests in a row. Others that wait to retry then give up.
    """
    try:
      for attempt in range(self.limits.retries + 1):
        if (quiet := self._not_before - time.monotonic()) > 0:
          await self._pause(stopping, quiet + random.uniform(0, BASE))
        if stopping.is_set() or self.stopped:
          return Answer(problem=STOPPED, passing=True)
        self._spend()
        answer, cause, wait = await self._send(connection, body)
        if not cause:
          break
        here = self.answered or cause not in SILENCE  # "try later" is an answer, too
        most = self.limits.retries if here else UNPROVEN
        if attempt >= most or wait > PATIENCE:
          break
        self.retries[cause] += 1
        backoff = random.uniform(0, min(LONGEST, BASE * 2**attempt))
        await self._pause(stopping, wait + backoff)
      self._count(answer, bool(cause))
      return answer
    except UserError:
      stopping.set()
      raise

  async def _send(
    self, connection: Any, body: Mapping[str, Any]
  ) -> tuple[Answer, str, float]:
    """One request: (answer, cause to retry or "", seconds the server asks to wait)."""
    import openai

    # Fields that the openai client does not know go into the body as they are.
    fields = {"model": body["model"], "messages": body["messages"]}
    extra = {n: v for n, v in body.items() if n not in fields and v is not None}
    self._clock()
    self.flying += 1
    try:
      async with asyncio.timeout(self.limits.timeout):
        raw = await connection.chat.completions.with_raw_response.create(
          **fields, extra_body=extra
        )
        return self._read(raw.http_response.content, body), "", 0.0
    except (TimeoutError, openai.APITimeoutError):
      return Answer(problem="timed out", passing=True), "timed out", 0.0
    except openai.APIConnectionError:
      return Answer(problem="no connection", passing=True), "no connection", 0.0
    except openai.APIStatusError as error:
      refusal = error
    finally:
      self._clock()
      self.flying -= 1
    return self._refused(refusal)  # out here, so that its error carries no other

  def _read(self, content: bytes, body: Mapping[str, Any]) -> Answer:
    try:
      reply = json.loads(content)
      choices = reply["choices"]
      tokens = reply.get("usage") or {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
      return Answer(problem="malformed answer", passing=True)
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict | None):
      return Answer(problem="malformed answer", passing=True)
    message = choice.get("message") if choice else None
    text = message.get("content") if isinstance(message, dict) else None
    # Without counts of the server's own, three characters are taken for a token.
    asked = sum(len(part["content"]) for part in body["messages"]) // 3
    told = len(text) // 3 if isinstance(text, str) else 0
    written = _count(tokens, "completion_tokens", told)
    self.prompt_tokens += _count(tokens, "prompt_tokens", asked)
    self.completion_tokens += written
    if choice is None:
      return Answer(problem="no choices", passing=True)
    if choice.get("finish_reason") == "content_filter":
      return Answer(problem="content filter")
    if isinstance(message, dict) and message.get("refusal"):
      return Answer(problem="refusal")
    if choice.get("finish_reason") == "length":
      # Cut before it was as long as it might be: by the server's context.
      problem = "truncated" if written >= body.get("max_tokens", 0) else TOO_LONG
      return Answer(text if isinstance(text, str) else "", problem)
    if not isinstance(text, str):
      return Answer(problem="no content", passing=True)
    return Answer(text)

  def _refused(self, error: Any) -> tuple[Answer, str, float]:
    status, code = error.status_code, f"{error.code or ''} {error.type or ''}"
    where, said = self._where(), self._said(error)
    self._last_words = said
    if "content_filter" in code or "content_policy" in code:
      return Answer(problem="content filter"), "", 0.0
    if status == 400 and re.search(r"context.(length|size)", f"{code} {said}"):
      return Answer(problem=TOO_LONG), "", 0.0
    if status in (401, 403) and not self.key:
      raise UserError(
        f"{where} wants a key ({status}{said}): the environment variable"
        f" {self.key_env}, which config.key_env names, is not set"
      )
    if status in (401, 403):
      raise UserError(
        f"{where} refuses the key ({status}{said}): put a valid one into the"
        f" environment variable {self.key_env}, or name another one with config.key_env"
      )
    if status == 404:
      raise UserError(
        f"{where} does not know the model or the path ({status}{said}); see"
        " config.model, and config.base_url, which mostly ends in /v1"
      )
    if "insufficient_quota" in code:
      raise RunError(
        f"{where}: the account has no credit left ({status}{said}); top it up and run"
        " the same command again: nothing is lost"
      )
    if status in (408, 409, 425, 429) or status >= 500:
      wait = _wait(error.response.headers)
      if wait <= PATIENCE:
        self._not_before = max(self._not_before, time.monotonic() + wait)
      problem = "rate limit" if status == 429 else f"error {status}"
      return Answer(problem=problem, passing=True), problem, wait
    # Mostly a setting that the server does not take, sometimes only this text.
    return Answer(problem=f"error {status}", passing=True), "", 0.0

  def _count(self, answer: Answer, exhausted: bool) -> None:
    """Counts failures in a row, and stops at too many."""
    failed = exhausted or answer.problem in NOTHING
    failed = failed or answer.problem.startswith("error ")
    if not failed:
      self.failures, self.answered = 0, True
      return
    self.failures += 1
    if self.failures < self.limits.failures:
      return
    again = "run the same command again: nothing is lost"
    where, last, count = self._where(), answer.problem, self.failures
    self.failures = 0  # of the next session
    if last in SILENCE:
      way = f"nothing answers at {where} ({last}); start the server, {again}"
    elif last == "rate limit":
      way = f"{where} keeps saying that it is asked too often; lower config.concurrency"
      way += f" or come back later, and {again}"
    elif last in NOTHING:
      way = f"{last}: what answers at {where} is no chat endpoint; see config.base_url,"
      way += " which mostly ends in /v1"
    else:
      way = f"{where} keeps failing ({last}{self._last_words}); mend the server or the"
      way += f" setting that it names, {again}"
    raise RunError(f"{count} requests in a row failed: {way}")

  def _spend(self) -> None:
    """Counts a request that is about to be sent, if the budgets allow it."""
    limits, used = self.limits, self.prompt_tokens + self.completion_tokens
    again = "and run the same command again: what is there is kept"
    if limits.request_budget and self.requests >= limits.request_budget:
      raise UserError(
        f"the budget of {limits.request_budget} requests is spent; raise"
        f" config.request_budget {again}"
      )
    if limits.token_budget and used >= limits.token_budget:
      raise UserError(
        f"the budget of {limits.token_budget} tokens is spent ({used} used); raise"
        f" config.token_budget {again}"
      )
    self.requests += 1

  async def _pause(self, stopping: asyncio.Event, seconds: float) -> None:
    """Sleeps, unless the run stops."""
    if seconds > 0:
      with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)

  def _clock(self) -> None:
    now = time.monotonic()
    if self._since is not None:
      self.seconds += now - self._since
      if self.flying >= self.limits.concurrency:
        self.full_seconds += now - self._since
    self._since = now

  def _where(self) -> str:
    """The address, without what may be secret in it."""
    parts = urlsplit(self.base_url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"

  def _said(self, error: Any) -> str:
    """What the server said, short, and never with the key in it."""
    body = error.body if isinstance(error.body, dict) else {}
    said = " ".join(str(body.get("message") or "").split())
    if self.key:
      said = said.replace(self.key, "…")
    return f": {said[:200]}" if said else ""


def _count(tokens: Any, name: str, otherwise: int) -> int:
  value = tokens.get(name) if isinstance(tokens, dict) else None
  return value if isinstance(value, int) and value >= 0 else otherwise


def _wait(headers: Mapping[str, str]) -> float:
  """Seconds of a Retry-After header: a number or a date; 0 where there is none."""
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
