"""Paraphrases texts with a language model at any OpenAI-compatible endpoint.

  python -m ssljax.augment --config=configs/augment/llm.py --data=FOLDER \
    --config.base_url=http://127.0.0.1:8000/v1 --config.model=NAME

`llm.py:weak` (a light rewording), `:register`, `:reframe` and `:lookalike` use other
prompts. In pairs, `:response` rewrites the response, and `:pair` rewrites both sides.
If the endpoint needs a key, put it into the environment variable OPENAI_API_KEY.
docs/augmentation.md describes the prompts, and how to start a server.
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
  config.prompt = prompt  # names or your files; a text's candidates use them in turn
  config.response_prompt = response_prompt
  config.part = part  # part of a pair to rewrite: text | response | both
  config.temperature = (0.3, 0.5, 0.7) if variant == "weak" else (0.7, 0.9, 1.1)
  config.top_p = 0.95
  config.max_tokens = 0  # limit for an answer; 0: depends on the length of the text
  config.body = ""  # JSON of more request fields; '{"seed": null}' removes a field
  config.key_env = "OPENAI_API_KEY"  # name of the environment variable, never the key

  config.concurrency = 8  # requests at the same time; as many as the server has slots
  config.timeout = 120.0  # seconds for one request
  config.retries = 6  # of a request, after 429, 5xx, a time-out or a lost connection
  config.failures = 10  # the run stops after so many failed requests in a row
  config.request_budget = 0  # requests per run; 0: unlimited
  config.token_budget = 0  # input and output tokens per run; 0: unlimited
  config.price_in = 0.0  # price of a million input tokens, to report the cost
  config.price_out = 0.0  # the same for output tokens

  config.language = "same"  # small models may switch to another language
  config.keep_questions = variant not in ("reframe", "register")
  if variant == "weak":
    config.most_alike = 0.999  # a light rewording changes few words
  if variant == "reframe":
    config.most_ratio = 10.0  # the request becomes part of a longer story
    config.max_tokens = 1024  # doesn't depend on the length of the text
  return config
