"""Paraphrases by a language model behind any OpenAI-compatible endpoint.

  python -m ssljax.augment --config=configs/augment/llm.py --data=FOLDER \
    --config.base_url=http://127.0.0.1:8000/v1 --config.model=NAME

Other prompts: `llm.py:weak` (a light rewording), `:register`, `:reframe`, `:lookalike`,
`:response` (pairs: the response), `:pair` (pairs: both sides). If the endpoint needs a
key, put it into the environment variable OPENAI_API_KEY. docs/augmentation.md describes
the prompts and how to start a server.
"""

from ssljax.configs.augment import base

from ssljax.errors import UserError

VARIANTS = {
  # name: (kind, prompts, prompts for responses, part)
  "strong": ("llm", ("paraphrase", "paraphrase", "register"), ("response",), "text"),
  "weak": ("llm_weak", ("light",), ("light-response",), "text"),
  "register": ("llm_register", ("register",), ("response",), "text"),
  "reframe": ("llm_reframe", ("reframe",), ("response",), "text"),
  "lookalike": ("llm_lookalike", ("lookalike",), ("response",), "text"),
  "response": ("llm_response", ("paraphrase",), ("response",), "response"),
  "pair": (
    "llm_pair",
    ("paraphrase", "paraphrase", "register"),
    ("response",),
    "both",
  ),
}


def get_config(variant: str = "strong"):
  if variant not in VARIANTS:
    raise UserError(f"llm.py:{variant}: choose from {', '.join(VARIANTS)}")
  kind, prompt, response_prompt, part = VARIANTS[variant]
  config = base.get_config("llm", kind)
  config.base_url = "http://127.0.0.1:8000/v1"
  config.model = ""
  config.prompt = prompt  # one per candidate, in turn; or your own files
  config.response_prompt = response_prompt
  config.part = part  # part of a pair to rewrite: text | response | both
  config.temperature = (0.3, 0.5, 0.7) if variant == "weak" else (0.7, 0.9, 1.1)
  config.top_p = 0.95
  config.max_tokens = 0  # of an answer; 0: depends on the length of the text
  config.body = ""  # JSON with more fields; '{"seed": null}' removes one
  config.key_env = "OPENAI_API_KEY"  # name of the environment variable, never the key

  config.concurrency = 8  # requests in flight; use the number of slots of the server
  config.timeout = 120.0  # seconds for one request
  config.retries = 6  # per request, after 429, 5xx, time-outs and lost connections
  config.failures = 10  # consecutive failed requests that stop the run
  config.request_budget = 0  # per run; 0: unlimited
  config.token_budget = 0  # per run, in and out; 0: unlimited
  config.price_in = 0.0  # per million tokens, to report the cost
  config.price_out = 0.0

  config.language = "same"  # small models may switch to another language
  config.keep_questions = variant not in ("reframe", "register")
  if variant == "weak":
    config.most_alike = 0.999  # few words change
  if variant == "reframe":
    config.most_ratio = 10.0  # a story around the request
    config.max_tokens = 1024  # independent of the length of the text
  return config
