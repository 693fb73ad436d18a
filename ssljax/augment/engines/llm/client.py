"""Sends requests to a chat endpoint, with retries, budgets and usage counts.

All sessions of a `Client` share its budgets and counts. A session holds the connections
of one event loop. The openai package sends the requests; its retries are off, so that
every request is counted.
"""

import asyncio
import collections
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import openai

from ssljax.augment import report
from ssljax.augment.engine import TOO_LONG, Candidate
from ssljax.augment.engines.llm.completion import parse_completion, retry_after
from ssljax.errors import RunError, UserError

# Longest wait in seconds before the first retry, and before any later one.
BACKOFF, MAX_BACKOFF = 1.0, 60.0
MAX_WAIT = 300.0  # seconds; if the server asks for a longer pause, the request fails
POLL = 0.1  # a waiting request checks this often (in seconds) whether the run stops
FIRST_RETRIES = 2  # if the server has never answered; its address may be wrong
SILENT = ("no connection", "timed out")
NOT_CHAT = ("malformed answer", "no choices", "no content")
ECHO = "the answer contains the API key"
STOPPED = "stopped"  # problem of a request that isn't sent because the run stops
RERUN = "run the same command again; finished views are kept"


class Limits(NamedTuple):
  """Limits and prices."""

  concurrency: int
  timeout: float  # seconds from the request to the complete answer
  retries: int  # of one request
  failures: int  # consecutive failed requests that stop the run
  budgets: dict[str, int]  # of requests ("request") and tokens ("token"); 0: unlimited
  prices: tuple[float, float]  # of a million prompt and completion tokens


class Client:
  """A chat endpoint; `session()` yields a function that sends requests to it."""

  def __init__(self, base_url: str, key: str, key_env: str, limits: Limits):
    """Sends nothing yet.

    Args:
      base_url: address of the endpoint; without credentials, because errors contain it.
      key: API key; "" if the endpoint needs none.
      key_env: environment variable of the key, for error messages.
    """
    self.base_url, self.key, self.key_env, self.limits = base_url, key, key_env, limits
    self.retries: collections.Counter[str] = collections.Counter()  # by problem
    self.requests = self.prompt_tokens = self.completion_tokens = 0
    self.failures = 0  # consecutive requests that failed after all retries
    self.answered, self.in_flight = False, 0
    self.seconds = self.full_seconds = 0.0  # from the first request to the last answer
    self.stopped = False  # whether no request may be sent any more
    self._last_update: float | None = None  # time of the last update of the seconds
    self._not_before = 0.0  # time until which the server asked to wait
    self._last_error = ""  # message of the server's last error

  def stop(self) -> None:
    """Lets requests in flight finish but sends no more; signal handlers may call it."""
    self.stopped = True

  def usage(self) -> dict[str, float]:
    """Returns counts; `full` is the share of the time in which all slots were busy."""
    price_in, price_out = self.limits.prices
    cost = self.prompt_tokens * price_in + self.completion_tokens * price_out
    return {
      "requests": self.requests,
      **{f"retries: {problem}": n for problem, n in sorted(self.retries.items())},
      "prompt_tokens": self.prompt_tokens,
      "completion_tokens": self.completion_tokens,
      **({"cost": cost / 1e6} if any(self.limits.prices) else {}),
      "seconds": self.seconds,
      "full": self.full_seconds / self.seconds if self.seconds else 0.0,
    }

  @contextlib.asynccontextmanager
  async def session(self) -> AsyncIterator[Callable[[dict], Awaitable[Candidate]]]:
    """Opens connections in the running event loop; yields `ask(body) -> Candidate`."""
    # Local hosts are reached without the proxies that the environment names.
    local = urlsplit(self.base_url).hostname in ("127.0.0.1", "localhost", "::1")
    async with openai.AsyncOpenAI(
      base_url=self.base_url,
      api_key=self.key or "none",  # the package insists on a key
      max_retries=0,
      timeout=self.limits.timeout,
      http_client=openai.DefaultAsyncHttpxClient(trust_env=not local),
    ) as connection:
      yield lambda body: self._ask(connection, body)

  async def _ask(self, connection: Any, body: dict) -> Candidate:
    """Returns the answer to a request, or a problem; retries temporary failures.

    Raises:
      UserError: a budget is spent, the endpoint permanently refuses requests, or too
        many consecutive requests failed. After that, nothing more is sent.
    """
    try:
      for attempt in range(self.limits.retries + 1):
        if (pause := self._not_before - time.monotonic()) > 0:
          await self._sleep(pause + random.uniform(0, BACKOFF))
        if self.stopped:
          return Candidate(problem=STOPPED, transient=True)
        self._check_budgets()
        self.requests += 1
        answer, wait = await self._send(connection, body)
        if wait is None:
          break
        unreachable = not self.answered and answer.problem in SILENT
        retries = FIRST_RETRIES if unreachable else self.limits.retries
        if attempt >= retries or wait > MAX_WAIT:
          break
        self.retries[answer.problem] += 1
        backoff = random.uniform(0, min(MAX_BACKOFF, BACKOFF * 2**attempt))
        await self._sleep(wait + backoff)
      self._count_failures(answer, gave_up=wait is not None)
      return answer
    except UserError:
      self.stopped = True
      raise

  async def _send(self, connection: Any, body: dict) -> tuple[Candidate, float | None]:
    """Returns an answer, and the seconds to wait before a retry (None: no retry)."""
    # The package may not know the user's fields, so they must be in extra_body.
    extra = {key: value for key, value in body.items() if value is not None}
    model, messages = extra.pop("model"), extra.pop("messages")
    self._update_seconds()
    self.in_flight += 1
    try:
      async with asyncio.timeout(self.limits.timeout):
        raw = await connection.chat.completions.with_raw_response.create(
          model=model, messages=messages, extra_body=extra
        )
      answer, prompt, completion = parse_completion(raw.http_response.content, body)
      self.prompt_tokens += prompt
      self.completion_tokens += completion
      if self._echoes_key(answer.text, messages):
        answer = Candidate(problem=ECHO, transient=True)  # never stored
      return answer, None
    except (TimeoutError, openai.APITimeoutError):
      return Candidate(problem="timed out", transient=True), 0.0
    except openai.APIConnectionError:
      return Candidate(problem="no connection", transient=True), 0.0
    except openai.APIStatusError as error:
      status_error = error
    finally:
      self._update_seconds()
      self.in_flight -= 1
    # This is outside the except block because the server's error, which may contain the
    # key, must not become the context of another error.
    return self._handle_status(status_error)

  def _echoes_key(self, answer: str, messages: list[dict[str, str]]) -> bool:
    """Whether a server has put the key into its answer."""
    if len(self.key) < report.MIN_SECRET:
      return False
    sent = "\n".join(message["content"] for message in messages)
    return self.key in f"{answer} {''.join(answer.split())}" and self.key not in sent

  def _handle_status(self, error: Any) -> tuple[Candidate, float | None]:
    """Returns the same as `_send`, or raises if all other requests would fail alike."""
    status, code = error.status_code, f"{error.code or ''} {error.type or ''}"
    body = error.body if isinstance(error.body, dict) else {}
    message = " ".join(str(body.get("message") or "").split())
    if self.key:
      message = message.replace(self.key, "…")
    self._last_error = message = f": {message[:200]}" if message else ""
    if "content_filter" in code or "content_policy" in code:
      return Candidate(problem="content filter"), None
    if status == 400 and re.search(r"context.(length|size)", f"{code} {message}"):
      return Candidate(problem=TOO_LONG), None
    if status in (401, 403):
      raise UserError(
        f"{self.base_url} {'rejects the' if self.key else 'requires a'} key"
        f" ({status}{message}): put a valid key into the environment variable"
        f" {self.key_env}, or name another variable with config.key_env"
      )
    if status == 404:
      raise UserError(
        f"{self.base_url} has no such model or path ({status}{message}); check"
        " config.model, and config.base_url, which usually ends in /v1"
      )
    if "insufficient_quota" in code:
      raise RunError(
        f"{self.base_url}: the account has no credit left ({status}{message}); add"
        f" credit and {RERUN}"
      )
    if status in (408, 409, 425, 429) or status >= 500:
      wait = retry_after(error.response.headers)
      if wait <= MAX_WAIT:
        self._not_before = max(self._not_before, time.monotonic() + wait)
      problem = "rate limit" if status == 429 else f"error {status}"
      return Candidate(problem=problem, transient=True), wait
    # Usually the server doesn't support a setting; sometimes it only rejects this text.
    return Candidate(problem=f"error {status}", transient=True), None

  def _count_failures(self, answer: Candidate, gave_up: bool) -> None:
    """Counts consecutive failures; raises RunError if there are too many."""
    problem = answer.problem
    failed = problem in (*NOT_CHAT, ECHO) or problem.startswith("error ")
    if not (gave_up or failed):
      self.failures, self.answered = 0, True
      return
    self.failures += 1
    if self.failures < self.limits.failures:
      return
    if problem in SILENT:
      reason = f"doesn't answer ({problem}); start the server and {RERUN}"
    elif problem == "rate limit":
      reason = f"limits the rate; lower config.concurrency or wait, then {RERUN}"
    elif problem in NOT_CHAT:
      reason = f"is not a chat endpoint ({problem}); does config.base_url end in /v1?"
    elif problem == ECHO:
      reason = f"puts the API key into its answers, or the value of {self.key_env} is a"
      reason += (
        f" word of the answers; change it (unset it if no key is needed) and {RERUN}"
      )
    else:
      reason = f"keeps failing ({problem}{self._last_error}); fix the server or the"
      reason += f" setting that this message names, and {RERUN}"
    count = self.failures
    raise RunError(f"{count} consecutive requests failed: {self.base_url} {reason}")

  def _check_budgets(self) -> None:
    tokens = self.prompt_tokens + self.completion_tokens
    for unit, count in (("request", self.requests), ("token", tokens)):
      budget = self.limits.budgets[unit]
      if budget and count >= budget:
        raise UserError(
          f"the budget of {budget} {unit}s is spent ({count} used); raise"
          f" config.{unit}_budget and {RERUN}"
        )

  def _update_seconds(self) -> None:
    now = time.monotonic()
    if self._last_update is not None:
      self.seconds += now - self._last_update
      if self.in_flight >= self.limits.concurrency:
        self.full_seconds += now - self._last_update
    self._last_update = now

  async def _sleep(self, seconds: float) -> None:
    """Sleeps, but wakes up when the run stops."""
    end = time.monotonic() + seconds
    while not self.stopped and (left := end - time.monotonic()) > 0:
      await asyncio.sleep(min(left, POLL))
