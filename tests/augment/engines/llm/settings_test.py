"""The settings of the LLM engine: what results depend on, and invalid values."""

import json

import pytest

pytest.importorskip(
  "openai", reason="needs the extra augment: pip install -e .[augment]"
)

from configs.augment import base, llm
from ssljax.augment import engines
from ssljax.errors import UserError
from tests.augment.engines.llm.stub_engine import make_offline_engine

pytestmark = pytest.mark.usefixtures("clean_client")


def settings(**keywords):
  return json.dumps(make_offline_engine(**keywords).settings, sort_keys=True)


def test_settings_contain_exactly_what_results_depend_on(tmp_path):
  default = settings()
  for change in (
    {"model": "n"},
    {"prompt": "register"},
    {"prompt": ("paraphrase", "register")},
    {"prompt": ("register", "paraphrase")},
    {"temperature": (0.7, 0.9)},
    {"top_p": 0.9},
    {"max_tokens": 9},
    {"seed": 1},
    {"part": "both"},
    {"body": '{"top_k": 1}'},
  ):
    assert settings(**change) != default, change
  for change in (
    {"base_url": "http://127.0.0.1:2/v1"},
    {"concurrency": 3},
    {"key_env": "OTHER"},
    {"timeout": 3.0, "retries": 1, "failures": 2},
    {"request_budget": 4, "token_budget": 5, "price_in": 1.0, "price_out": 2.0},
  ):
    assert settings(**change) == default, change
  path = tmp_path / "prompt.md"
  content = "Mine.\n## system\nS\n## user\n{open}\n{text}\n{close}\n"
  path.write_text(content)
  before = settings(prompt=str(path))
  path.write_text(content + "more\n")
  assert settings(prompt=str(path)) != before


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"base_url": "127.0.0.1:8000"}, "config.base_url"),
    ({"base_url": "http://127.0.0.1:70000/v1"}, "config.base_url"),
    ({"base_url": "http://127.0.0.1:abc/v1"}, "config.base_url"),
    ({"base_url": "http://[::1/v1"}, "config.base_url"),
    (
      {"key_env": "sk-secret"},
      "config.key_env is not the name of an environment variable",
    ),
    ({"body": '{"api_key": "secret"}'}, "config.body: 'api_key' looks like a key"),
    ({"body": '{"apikey": "x"}'}, "config.body: 'apikey' looks like a key"),
    ({"body": '{"h": {"Authorization": "x"}}'}, "'Authorization' looks like a key"),
    ({"body": '{"a": [{"api-key": "x"}]}'}, "'api-key' looks like a key"),
    ({"base_url": "http://u:secret@h/v1"}, "must not contain a key"),
    ({"base_url": "http://h/v1?key=secret"}, "must not contain a key"),
    ({"base_url": "http://h/v1#secret"}, "must not contain a key"),
    ({"model": ""}, "config.model"),
    ({"part": "prompt"}, "config.part"),
    ({"concurrency": 0}, "config.concurrency"),
    ({"temperature": ()}, "config.temperature"),
    ({"temperature": 3.0}, "config.temperature"),
    ({"top_p": 0.0}, "config.top_p"),
    ({"body": "[1]"}, "config.body"),
    ({"body": '{"messages": []}'}, "config.body: 'messages' is set by the engine"),
    ({"temperature": "abc"}, "config.temperature"),
    ({"temperature": (0.5, None)}, "config.temperature"),
    ({"request_budget": -1}, "config.request_budget"),
    ({"price_in": -1.0}, "config.price_in"),
    ({"max_tokens": -7}, "config.max_tokens"),
    ({"timeout": float("nan")}, "config.timeout"),
    ({"timeout": float("inf")}, "config.timeout"),
    ({"body": "{"}, "config.body"),
    ({"prompt": ()}, "config.prompt"),
    ({"prompt": "response"}, "config.prompt: the prompt 'response' is for responses"),
    (
      {"part": "both", "response_prompt": "light"},
      "config.response_prompt: the prompt 'light' is for texts",
    ),
  ],
)
def test_invalid_settings(change, words):
  with pytest.raises(UserError) as caught:
    settings(**change)
  assert words in str(caught.value)
  assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-cut…", "sk-two\nlines", "sk-\x7f"])
def test_the_error_for_an_invalid_key_does_not_show_it(monkeypatch, key):
  monkeypatch.setenv("MY_KEY", key)
  with pytest.raises(UserError, match="MY_KEY contains invalid") as caught:
    settings(key_env="MY_KEY")
  assert "sk-" not in str(caught.value)


def test_each_config_variant_has_its_own_kind():
  kinds = [kind for kind, *_ in llm.VARIANTS.values()]
  assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("variant", llm.VARIANTS)
def test_config_variants_create_engines(variant):
  config = llm.get_config(variant)
  names = set(config) - set(base.get_config("llm"))
  keywords = {name: config[name] for name in names} | {"model": "m"}
  engine = engines.make("llm", keywords, {"seed": config.seed, "views": config.views})
  assert engine.name == "llm"
  assert config.key_env == "OPENAI_API_KEY"
  weak, strong = llm.get_config("weak"), llm.get_config("strong")
  assert not set(weak.prompt) & set(strong.prompt)
  assert weak.kind != strong.kind
