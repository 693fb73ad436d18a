"""Views written by a language model behind any OpenAI-compatible endpoint.

What is asked stands in prompts/*.md. A view is one request, a view of both sides of a
pair is two. No label is ever shown.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from ssljax.augment import report
from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.augment.engines.llm import prompt as prompts
from ssljax.augment.engines.llm.client import STOPPED, Client, Limits
from ssljax.augment.engines.llm.concurrency import stream
from ssljax.augment.engines.llm.prompt import Prompt
from ssljax.errors import UserError

PARTS = ("text", "response", "both")
OWN = {"model", "messages", "stream", "n"}  # fields that no config may set
CONTROL, NO_RESPONSE = "chat control tokens", "no response"


def make(
  *,
  base_url: str,
  model: str,
  prompt: str | Sequence[str] = ("paraphrase",),
  response_prompt: str | Sequence[str] = ("response",),
  part: str = "text",
  temperature: float | Sequence[float] = (0.7, 0.9, 1.1),
  top_p: float = 0.95,
  max_tokens: int = 0,
  body: str = "",
  key_env: str = "OPENAI_API_KEY",
  concurrency: int = 8,
  timeout: float = 120.0,
  retries: int = 6,
  failures: int = 10,
  request_budget: int = 0,
  token_budget: int = 0,
  price_in: float = 0.0,
  price_out: float = 0.0,
  views: int = 1,
  seed: int = 0,
) -> Engine:
  """The engine; nothing is sent before its `make` is iterated over.

  Args:
    base_url: of the endpoint; most end in /v1.
    model: its name there.
    prompt, response_prompt: names of prompt files, or paths that end in `.md`; a
      text's candidates take them in turn.
    part: what is rewritten of a pair: "text", "response" or "both".
    temperature: of the first `views` candidates of a text, of those that are asked
      for in the place of dropped ones, and so on; the last also serves what follows.
    max_tokens: of an answer; 0 goes by the length of the text.
    body: JSON object of further fields of a request; null leaves a field out, as in
      '{"seed": null}'.
    key_env: environment variable that holds the key; it may be unset.
    concurrency: requests on their way at once.
    timeout: seconds for one request.
    retries: of a request that failed for a reason that may pass.
    failures: requests in a row of which nothing came, before the run stops.
    request_budget, token_budget: of one run, 0 for none; what is on its way when
      tokens run out still comes in.
    price_in, price_out: per million tokens, to show the cost.
    views: wanted of each text.

  Raises:
    UserError: the openai package is missing, or a setting cannot be.
  """
  try:
    import openai  # noqa: F401  (an extra; found missing now, not in the thread)
  except ImportError:
    raise UserError(
      "the llm engine needs the openai package: pip install -e '.[augment]'"
    ) from None
  _check(base_url, model, part, concurrency, timeout, retries, failures, top_p)
  for_text = [] if part == "response" else _prompts("prompt", prompt, False)
  for_response = (
    [] if part == "text" else _prompts("response_prompt", response_prompt, True)
  )
  temperatures = [temperature] if isinstance(temperature, int | float) else temperature
  number = lambda t: isinstance(t, int | float) and 0 <= t <= 2
  if not (isinstance(temperatures, Sequence) and all(map(number, temperatures))):
    raise UserError(f"config.temperature: {temperature}; give numbers from 0 to 2")
  if not temperatures:
    raise UserError("config.temperature: give at least one number")
  for name, value in (
    ("max_tokens", max_tokens),
    ("request_budget", request_budget),
    ("token_budget", token_budget),
    ("price_in", price_in),
    ("price_out", price_out),
  ):
    if not 0 <= value < math.inf:
      raise UserError(f"config.{name}: {value}; must be at least 0")
  further = _further(body)
  limits = Limits(
    concurrency,
    timeout,
    retries,
    failures,
    request_budget,
    token_budget,
    price_in,
    price_out,
  )
  client = Client(base_url, _key(key_env), key_env, limits)

  def temperature_of(number: int) -> float:
    return float(temperatures[min(number // views, len(temperatures) - 1)])

  async def rewrite(
    ask: Any, using: Sequence[Prompt], source: Source, number: int
  ) -> Candidate:
    """One request; the candidate's `text` is the new text, or the new response."""
    chosen = using[number % len(using)]
    context = source.response if chosen.pair else None
    if prompts.CONTROL.search(source.text + " " + (context or "")):
      # It could end its turn in the model's chat template, and speak as the system.
      return Candidate(problem=CONTROL)
    marked = prompts.build(chosen, source.text, context, seed)
    rewritten = source.text if context is None else context
    answer = await ask(
      {
        "model": model,
        "messages": marked.messages,
        "temperature": temperature_of(number),
        "top_p": top_p,
        "max_tokens": max_tokens or _room(rewritten),
        "seed": _seed(seed, chosen, source, number),
      }
      | further
    )
    if answer.problem:
      return Candidate(answer.content, None, answer.problem, answer.passing)
    new = prompts.answer(answer.content, marked)
    return Candidate(answer.content, None, "markers") if new is None else Candidate(new)

  async def candidate(ask: Any, source: Source, number: int) -> Candidate:
    text, response = source.text, source.response
    if part == "response" and response is None:
      return Candidate(problem=NO_RESPONSE)
    if for_text:
      new = await rewrite(ask, for_text, source, number)
      if new.problem:
        return new
      text = new.text
    if for_response and response is not None:
      new = await rewrite(ask, for_response, source, number)
      if new.problem:
        return new._replace(text=text, response=new.text)
      response = new.text
    return Candidate(text, response)

  def make_views(
    sources: Sequence[Source], number: int
  ) -> Iterator[tuple[int, Sequence[Candidate]]]:
    @asynccontextmanager
    async def opened():
      async with client.session() as ask:

        async def work(i: int) -> tuple[int, list[Candidate]] | None:
          made = await candidate(ask, sources[i], number)
          if made.problem == STOPPED:
            return None
          # What no request can help is said once.
          return i, [] if number and made.problem in (CONTROL, NO_RESPONSE) else [made]

        yield work

    return stream(range(len(sources)), opened, concurrency, lambda: client.stopped)

  same = {
    "model": model,
    "part": part,
    "top_p": top_p,
    "max_tokens": max_tokens,
    "body": further,
    "seed": seed,
  }
  settings = same | {
    "prompts": {p.name: p.sha256 for p in (*for_text, *for_response)},
    "prompt": [p.name for p in for_text],
    "response_prompt": [p.name for p in for_response],
    "temperature": [float(t) for t in temperatures],
  }

  def asks(source: Source, number: int) -> dict[str, Any]:
    uses = (using for using in (for_text, for_response) if using)
    return same | {
      "prompts": [using[number % len(using)].sha256 for using in uses],
      "temperature": temperature_of(number),
      "number": number,  # the seed of a request hangs on it
    }

  return Engine(
    "llm",
    settings,
    make_views,
    usage=client.usage,
    stop=client.stop,
    asks=asks,
  )


def _check(base_url, model, part, concurrency, timeout, retries, failures, top_p):
  try:
    parts = urlsplit(base_url)
    fine = parts.scheme in ("http", "https") and bool(parts.hostname)
    fine = fine and parts.port != 0  # reading it raises where it is none
  except ValueError:
    fine = False
  if not fine:
    raise UserError(
      "config.base_url: give the address of the endpoint, such as"
      " http://127.0.0.1:8000/v1"
    )
  if parts.username or parts.password or parts.query:
    raise UserError(
      "config.base_url must hold no key or password; put the key into the environment"
      " variable that config.key_env names"
    )
  if not model:
    raise UserError("config.model: name the model, as the endpoint calls it")
  if part not in PARTS:
    raise UserError(f"config.part: {part!r}; choose from {', '.join(PARTS)}")
  for name, value, least in (
    ("concurrency", concurrency, 1),
    ("timeout", timeout, 0.1),
    ("retries", retries, 0),
    ("failures", failures, 1),
  ):
    if not least <= value < math.inf:
      raise UserError(f"config.{name}: {value}; must be at least {least}")
  if not 0 < top_p <= 1:
    raise UserError(f"config.top_p: {top_p}; must be above 0 and at most 1")


def _key(name: str) -> str:
  """The key that the environment holds, "" where there is none.

  Raises:
    UserError: not a variable's name, which may be the key itself and is not repeated;
      or what no header can carry.
  """
  if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
    raise UserError(
      "config.key_env is not a variable's name; give the name of the environment"
      " variable that holds the key, never the key"
    )
  key = os.environ.get(name, "").strip()
  if not (key.isascii() and key.isprintable()):
    raise UserError(
      f"the key in the environment variable {name} has characters that no key has; was"
      " it cut off or copied with a line break?"
    )
  return key


def _prompts(key: str, names: str | Sequence[str], pair: bool) -> list[Prompt]:
  if isinstance(names, str):
    names = [name.strip() for name in names.split(",") if name.strip()]
  loaded = [prompts.load(name) for name in names]
  if not loaded:
    raise UserError(f"config.{key}: name at least one prompt")
  for each in loaded:
    if each.pair != pair:
      raise UserError(
        f"config.{key}: the prompt {each.name!r} is for a"
        f" {'response' if each.pair else 'text'} (a prompt for responses has the slot"
        " {response})"
      )
  return loaded


def _further(body: str) -> dict[str, Any]:
  """The fields that a user adds; None leaves one out."""
  try:
    further = json.loads(body or "{}")
  except ValueError:
    further = None
  if not isinstance(further, dict):
    raise UserError("config.body: give a JSON object, such as '{\"seed\": null}'")
  for name in OWN & further.keys():
    raise UserError(f"config.body: {name!r} is set by the engine; leave it out")
  for name in _names(further):
    if report.SECRET.search(name):
      raise UserError(
        f"config.body: {name!r} looks like a key, which does not belong into a config;"
        " put it into the environment variable that config.key_env names"
      )
  return further


def _names(value: Any) -> Iterator[str]:
  """The names of fields at any depth."""
  if isinstance(value, dict):
    yield from value
    value = list(value.values())
  if isinstance(value, list):
    for each in value:
      yield from _names(each)


def _room(text: str) -> int:
  """Tokens for a rewrite up to some three times as long; ample for most scripts."""
  return 64 + len(text.encode("utf-8", "surrogatepass")) * 3 // 4


def _seed(seed: int, chosen: Prompt, source: Source, number: int) -> int:
  """A number of 31 bits that differs between all requests and is the same next time."""
  parts = (seed, chosen.sha256, number, source.text, source.response)
  digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=4).digest()
  return int.from_bytes(digest, "big") >> 1
