"""Creates views with a language model behind any OpenAI-compatible endpoint.

The prompts are in prompts/*.md. A view takes one request, or two if it changes both the
text and the response. Labels are never sent.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.augment.engines.llm import validation
from ssljax.augment.engines.llm.client import STOPPED, Client, Limits
from ssljax.augment.engines.llm.concurrency import run_concurrently
from ssljax.augment.engines.llm.prompt import (
  CONTROL_TOKENS,
  Prompt,
  build_request,
  parse_rewrite,
)
from ssljax.errors import UserError

PARTS = ("text", "response", "both")
HAS_CONTROL_TOKENS, NO_RESPONSE = "chat control tokens", "no response"


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
  """Creates the engine, which sends nothing until its `make` is iterated over.

  Args:
    base_url: address of the endpoint, which usually ends in /v1.
    model: the model's name at the endpoint.
    prompt, response_prompt: names of prompts, or paths that end in `.md`. The
      candidates of a text cycle through them.
    part: part of a pair to rewrite: "text", "response" or "both".
    temperature: one for each round of `views` candidates: the first round, the round
      that replaces dropped candidates, and so on; further rounds use the last one.
    top_p: for nucleus sampling, above 0, at most 1.
    max_tokens: of an answer; 0 for a limit that depends on the length of the text.
    body: JSON object with more fields of a request; null removes a field, for example
      '{"seed": null}'.
    key_env: environment variable of the API key; it may be unset.
    concurrency: number of requests in flight at once.
    timeout: seconds for one request.
    retries: of a request that failed for a temporary reason.
    failures: number of consecutive failed requests that stops the run.
    request_budget, token_budget: for one run, 0 for unlimited. When a budget is spent,
      requests in flight still finish.
    price_in, price_out: per million tokens, to report the cost.
    views: number of views that each text needs.

  Raises:
    UserError: the openai package is missing or a setting is invalid.
  """
  try:
    import openai  # noqa: F401  (an optional dependency; fail before threads start)
  except ImportError:
    raise UserError(
      "the llm engine needs the openai package: pip install -e '.[augment]'"
    ) from None
  validation.check_url(base_url)
  if not model:
    raise UserError("config.model: give the model's name at the endpoint")
  if part not in PARTS:
    raise UserError(f"config.part: {part!r}; choose from {', '.join(PARTS)}")
  if not 0 < top_p <= 1:
    raise UserError(f"config.top_p: {top_p}; must be above 0 and at most 1")
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
  validation.check_minimums(limits._asdict() | {"max_tokens": max_tokens})
  temperatures = validation.check_temperatures(temperature)
  extra_fields = validation.parse_body(body)
  text_prompts, response_prompts = [], []
  read_prompts = validation.read_prompts
  if part != "response":
    text_prompts = read_prompts("prompt", prompt, pair=False)
  if part != "text":
    response_prompts = read_prompts("response_prompt", response_prompt, pair=True)
  client = Client(base_url, validation.read_key(key_env), key_env, limits)

  def temperature_of(number: int) -> float:
    return temperatures[min(number // views, len(temperatures) - 1)]

  async def rewrite(
    ask: Any, prompts: Sequence[Prompt], source: Source, number: int
  ) -> Candidate:
    """Sends one request; returns the new text or response as the candidate's text."""
    prompt = prompts[number % len(prompts)]
    response = source.response if prompt.pair else None
    if CONTROL_TOKENS.search(source.text + " " + (response or "")):
      # These tokens could end the user's turn and start a system turn.
      return Candidate(problem=HAS_CONTROL_TOKENS)
    request = build_request(prompt, source.text, response, seed)
    original = source.text if response is None else response
    # Enough for a rewrite about three times as long as the original, in most scripts.
    default = 64 + len(original.encode("utf-8", "surrogatepass")) * 3 // 4
    # A 31-bit hash, so that different requests have different, reproducible seeds.
    key = (seed, prompt.sha256, number, source.text, source.response)
    digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=4).digest()
    fields = {
      "model": model,
      "messages": request.messages,
      "temperature": temperature_of(number),
      "top_p": top_p,
      "max_tokens": max_tokens or default,
      "seed": int.from_bytes(digest, "big") >> 1,
    }
    answer = await ask(fields | extra_fields)
    if answer.problem:
      return Candidate(answer.content, None, answer.problem, answer.transient)
    new = parse_rewrite(answer.content, request)
    return Candidate(answer.content, None, "markers") if new is None else Candidate(new)

  async def candidate(ask: Any, source: Source, number: int) -> Candidate:
    text, response = source.text, source.response
    if part == "response" and response is None:
      return Candidate(problem=NO_RESPONSE)
    if text_prompts:
      new = await rewrite(ask, text_prompts, source, number)
      if new.problem:
        return new
      text = new.text
    if response_prompts and response is not None:
      new = await rewrite(ask, response_prompts, source, number)
      if new.problem:
        return new._replace(text=text, response=new.text)
      response = new.text
    return Candidate(text, response)

  def make_views(sources: Sequence[Source], number: int):
    async def work(ask: Any, i: int) -> tuple[int, list[Candidate]] | None:
      result = await candidate(ask, sources[i], number)
      if result.problem == STOPPED:
        return None
      # Problems of the text itself are reported for its first candidate only.
      permanent = result.problem in (HAS_CONTROL_TOKENS, NO_RESPONSE)
      return i, [] if number and permanent else [result]

    indices = range(len(sources))
    stopped = lambda: client.stopped
    return run_concurrently(indices, client.session, work, concurrency, stopped)

  shared = {
    "model": model,
    "part": part,
    "top_p": top_p,
    "max_tokens": max_tokens,
    "body": extra_fields,
    "seed": seed,
  }
  settings = shared | {
    "prompts": {p.name: p.sha256 for p in (*text_prompts, *response_prompts)},
    "prompt": [p.name for p in text_prompts],
    "response_prompt": [p.name for p in response_prompts],
    "temperature": temperatures,
  }

  def asks(source: Source, number: int) -> dict[str, Any]:
    used = [prompts for prompts in (text_prompts, response_prompts) if prompts]
    return shared | {
      "prompts": [prompts[number % len(prompts)].sha256 for prompts in used],
      "temperature": temperature_of(number),
      "number": number,  # the seed of a request depends on it
    }

  return Engine(
    "llm", settings, make_views, usage=client.usage, stop=client.stop, asks=asks
  )
