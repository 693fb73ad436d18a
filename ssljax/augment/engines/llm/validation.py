"""Validates the settings of the LLM engine; reads its API key and prompts."""

import json
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ssljax.augment import report
from ssljax.augment.engines.llm.prompt import Prompt, load_prompt
from ssljax.errors import UserError

RESERVED = {"model", "messages", "stream", "n"}  # fields that config.body must not set


def check_url(base_url: str) -> None:
  try:
    url = urlsplit(base_url)
    # `port` raises ValueError if it isn't a number.
    valid = url.scheme in ("http", "https") and url.hostname and url.port != 0
    secret = url.username or url.password or url.query or url.fragment
  except ValueError:
    valid = secret = False
  if secret or not valid:  # the error doesn't show the address, which may be secret
    raise UserError(
      "config.base_url must be the address of an endpoint, such as"
      " http://127.0.0.1:8000/v1, and must not contain a key or password; put the key"
      " into the environment variable that config.key_env names"
    )


def check_temperatures(temperature: float | Sequence[float]) -> list[float]:
  """Returns the temperatures as a list."""
  try:
    temperatures = np.ravel(np.array(temperature, float)).tolist()
  except (TypeError, ValueError):
    temperatures = []
  if not temperatures or not all(0 <= number <= 2 for number in temperatures):
    raise UserError(
      f"config.temperature: {temperature}; give at least one number from 0 to 2"
    )
  return temperatures


def read_key(variable: str) -> str:
  """Returns the key in an environment variable; "" if it isn't set.

  Raises:
    UserError: the name isn't valid, or the key can't be sent in a header. The message
      never quotes the key, nor an invalid name, since that may be the key.
  """
  if not (variable.isascii() and variable.isidentifier()):
    raise UserError(
      "config.key_env is not the name of an environment variable; give the name of the"
      " variable that contains the key, not the key itself"
    )
  key = os.environ.get(variable, "").strip()
  if not (key.isascii() and key.isprintable()):
    raise UserError(
      f"the key in the environment variable {variable} contains invalid characters; was"
      " it truncated or copied with a line break?"
    )
  return key


def read_prompts(key: str, names: str | Sequence[str]) -> list[Prompt]:
  """Reads the prompts for texts or responses.

  Args:
    key: config key of the prompts, "prompt" or "response_prompt".
    names: a sequence, or a string with commas between the names.
  """
  if isinstance(names, str):
    names = [name.strip() for name in names.split(",") if name.strip()]
  if not names:
    raise UserError(f"config.{key}: give at least one prompt")
  prompts = [load_prompt(name) for name in names]
  for prompt in prompts:
    if prompt.pair != (key == "response_prompt"):
      raise UserError(
        f"config.{key}: the prompt {prompt.name!r} is for"
        f" {'responses' if prompt.pair else 'texts'}; prompts for responses have the"
        " slot {response}"
      )
  return prompts


def parse_body(body: str) -> dict[str, Any]:
  """Parses the user's fields of a request; None means that a field is removed."""

  def check_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, _ in pairs:
      if report.SECRET.search(name):
        raise UserError(
          f"config.body: {name!r} looks like a key, which must not be in a config; put"
          " it into the environment variable that config.key_env names"
        )
    return dict(pairs)

  try:
    fields = json.loads(body or "{}", object_pairs_hook=check_names)
  except ValueError:
    fields = None
  if not isinstance(fields, dict):
    raise UserError("config.body must be a JSON object, such as '{\"seed\": null}'")
  for name in RESERVED & fields.keys():
    raise UserError(f"config.body: {name!r} is set by the engine; remove it")
  return fields
