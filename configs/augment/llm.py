"""Views by a language model behind an OpenAI-compatible endpoint, hosted or your own.

  python -m ssljax.augment --config=configs/augment/llm.py --data=FOLDER \
    --config.base_url=http://127.0.0.1:8000/v1 --config.model=NAME

Other prompts: `llm.py:weak` (a light rewording), `:register`, `:reframe`, `:lookalike`,
`:response` (pairs: the response), `:pair` (pairs: both sides). A key, where one is
needed, stands in the environment variable OPENAI_API_KEY. Speeds and how to start a
server: docs/augmentation.md.
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
  config.prompt = prompt  # of a text's candidates, in turn; or paths of your own files
  config.response_prompt = response_prompt
  config.part = part  # of a pair: text | response | both
  config.temperature = (0.3, 0.5, 0.7) if variant == "weak" else (0.7, 0.9, 1.1)
  config.top_p = 0.95
  config.max_tokens = 0  # of an answer; 0: by the length of the text
  config.body = ""  # JSON of further fields: '{"seed": null}' leaves one out
  config.key_env = "OPENAI_API_KEY"  # the variable's name, never the key

  config.concurrency = 8  # requests at once; as many as the server has slots
  config.timeout = 120.0  # seconds for one request
  config.retries = 6  # of one request, after 429, 5xx, time-outs, lost connections
  config.failures = 10  # requests in a row of which nothing came: the run stops
  config.request_budget = 0  # of one run; 0: none
  config.token_budget = 0  # of one run, in and out; 0: none
  config.price_in = 0.0  # per million tokens, to show the cost
  config.price_out = 0.0

  config.language = "same"  # a small model may fall into that of its training
  config.keep_questions = variant not in ("reframe", "register")
  if variant == "weak":
    config.most_alike = 0.999  # a few words of many
  if variant == "reframe":
    config.most_ratio = 10.0  # the frame comes on top
    config.max_tokens = 1024  # whatever the length of the text
  return config
