"""Creates views with a language model behind any OpenAI-compatible endpoint.

The prompts are in prompts/*.md. A view takes one request, or two if it changes both the
text and the response. Labels are never sent.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from ssljax.augment.engine import Candidate, Engine, Source
from ssljax.augment.engines.llm import validation
from ssljax.augment.engines.llm.concurrency import run_concurrently
from ssljax.augment.engines.llm.prompt import build_request, parse_rewrite
from ssljax.errors import UserError
from ssljax.options import Amount, Count, Natural, Range

HAS_CONTROL_TOKENS, NO_RESPONSE = "chat control tokens", "no response"


def make(
  *,
  base_url: Annotated[str, "address of the endpoint, which usually ends in /v1"],
  model: Annotated[str, "name of the model at the endpoint"],
  prompt: Annotated[
    str | Sequence[str],
    "prompts for texts, used in turn: names, or paths that end in .md",
  ] = ("paraphrase",),
  response_prompt: Annotated[
    str | Sequence[str], "prompts for responses, used in turn: names or paths"
  ] = ("response",),
  part: Annotated[
    Literal["text", "response", "both"], "which part of a pair to rewrite"
  ] = "text",
  temperature: Annotated[
    float | Sequence[float], "0 to 2; one per attempt; further attempts use the last"
  ] = (0.7, 0.9, 1.1),
  top_p: Annotated[
    float, Range(0.01, 1.0), "probability mass for nucleus sampling"
  ] = 0.95,
  max_tokens: Annotated[
    Natural, "most tokens of an answer; 0: derived from the length of the text"
  ] = 0,
  body: Annotated[
    str, """JSON with more fields for requests; '{"seed": null}' removes a field"""
  ] = "",
  key_env: Annotated[
    str, "environment variable of the API key; it may be unset"
  ] = "OPENAI_API_KEY",
  concurrency: Annotated[Count, "requests in flight at once"] = 8,
  timeout: Annotated[float, Range(0.1), "seconds for one request"] = 120.0,
  retries: Annotated[Natural, "retries after a temporary failure of a request"] = 6,
  failures: Annotated[Count, "consecutive failed requests that stop the run"] = 10,
  request_budget: Annotated[Natural, "most requests in one run; 0: unlimited"] = 0,
  token_budget: Annotated[
    Natural, "most tokens (in and out) in one run; 0: unlimited"
  ] = 0,
  price_in: Annotated[
    Amount, "price of a million prompt tokens, to report the cost"
  ] = 0.0,
  price_out: Annotated[Amount, "price of a million tokens of answers"] = 0.0,
  views: Annotated[Count, "views that each text needs; set by the pipeline"] = 1,
  seed: Annotated[Natural, "seed of all random draws"] = 0,
) -> Engine:
  """Creates the engine, which sends nothing until its `make` is iterated over.

  The candidates of a text use the prompts in turn. The first `views` candidates have
  the first temperature, the next `views` candidates have the second, and so on. When
  a budget is spent, requests in flight still finish.

  Raises:
    UserError: the openai package is missing or a setting is invalid.
  """
  try:
    from ssljax.augment.engines.llm.client import STOPPED, Client, Limits
  except ImportError:
    raise UserError(
      "the llm engine needs the openai package: pip install -e '.[augment]'"
    ) from None
  validation.check_url(base_url)
  if not model:
    raise UserError("config.model: give the model's name at the endpoint")
  budgets = {"request": request_budget, "token": token_budget}
  prices = price_in, price_out
  limits = Limits(concurrency, timeout, retries, failures, budgets, prices)
  temperatures = validation.check_temperatures(temperature)
  extra_fields = validation.parse_body(body)
  text_prompts, response_prompts = [], []
  if part != "response":
    text_prompts = validation.read_prompts("prompt", prompt)
  if part != "text":
    response_prompts = validation.read_prompts("response_prompt", response_prompt)
  client = Client(base_url, validation.read_key(key_env), key_env, limits)

  def temperature_of(number: int) -> float:
    return temperatures[min(number // views, len(temperatures) - 1)]

  async def rewrite(ask: Any, prompts: list, source: Source, number: int) -> Candidate:
    """Sends one request; returns the new text or response as the candidate's text."""
    prompt = prompts[number % len(prompts)]
    response = source.response if prompt.pair else None
    request = build_request(prompt, source.text, response, seed)
    if request is None:
      return Candidate(problem=HAS_CONTROL_TOKENS)
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
      return answer
    new = parse_rewrite(answer.text, request)
    return answer._replace(problem="markers") if new is None else Candidate(new)

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
      # Problems of the text itself are reported only for its first candidate.
      permanent = result.problem in (HAS_CONTROL_TOKENS, NO_RESPONSE)
      return i, [] if number and permanent else [result]

    return run_concurrently(len(sources), client.session, work, concurrency)

  shared: dict[str, Any] = {"model": model, "part": part, "top_p": top_p, "seed": seed}
  shared |= {"max_tokens": max_tokens, "body": extra_fields}
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
