"""Reads prompt files and builds chat messages that contain the text as data.

The first line of a prompt file describes the prompt. These sections follow:
  `## system`
  `## user`, with the slots `{open}` and `{close}` for the markers around data, `{text}`
    and, in a prompt for responses, `{response}`
  any number of examples, which become turns of the conversation; an example consists of
    `## text`, (in a prompt for responses) `## response`, and `## rewrite`

To prevent prompt injection, markers contain a pseudo-random number that isn't in the
text, so that no text can close its own markers. All slots are filled at once, so that a
slot inside a text stays as it is. Only the last message depends on the text, so that
servers can cache the other messages as a prefix.
"""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from ssljax.augment.chat_markup import CONTROL_TOKENS, strip_answer
from ssljax.errors import UserError

FOLDER = Path(__file__).with_name("prompts")
SLOT = re.compile(r"\{(open|close|text|response)\}")
HEADING = re.compile(r"^## (system|user|text|response|rewrite)\n", re.MULTILINE)

DIGITS = 6  # in a marker; small models make mistakes when they copy longer numbers
MARKER = re.compile(r"</?data-\d+>")
OUTER_MARKER = re.compile(rf"\A{MARKER.pattern}|{MARKER.pattern}\Z")


class Prompt(NamedTuple):
  """A parsed prompt file."""

  name: str
  messages: list[dict[str, str]]  # the system message and the examples
  user: str
  sha256: str  # of the file

  @property
  def pair(self) -> bool:
    """Whether the prompt rewrites responses; then the text is only context."""
    return "{response}" in self.user


class Request(NamedTuple):
  """The messages of a request, and what `parse_rewrite` needs to know about them."""

  messages: list[dict[str, str]]
  number: str  # in the markers around data
  cue: str  # the prompt's last words if it ends in a colon, otherwise ""


def load_prompt(name: str) -> Prompt:
  """Reads `prompts/<name>.md` of this package or a user's file.

  Args:
    name: a bare name, or a path, which contains a slash or ends in `.md`.

  Raises:
    UserError: the file is missing, or lacks a section or a slot.
  """
  is_path = "/" in name or name.endswith(".md")
  path = Path(name).expanduser() if is_path else FOLDER / f"{name}.md"
  try:
    data = path.read_bytes()
    _, *parts = HEADING.split(data.decode().replace("\r\n", "\n"))
  except FileNotFoundError:
    names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.md")))
    raise UserError(
      f"config.prompt: no prompt {name!r}; choose from {names}, or give the path of a"
      " file that ends in .md"
    ) from None
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"{path}: cannot read the prompt: {error}") from None
  headings, bodies = parts[::2], [body.strip() for body in parts[1::2]]
  slots = SLOT.findall(bodies[1]) if headings[:2] == ["system", "user"] else []
  pair = "response" in slots
  example = ["text", "response", "rewrite"] if pair else ["text", "rewrite"]
  expected = ["system", "user"] + example * ((len(headings) - 2) // len(example))
  if (
    headings != expected
    or not all(bodies)
    or SLOT.search(bodies[0])
    or not {"open", "close"} <= set(slots)
    or slots.count("text") != 1
    or slots.count("response") > 1
  ):
    raise UserError(
      f"{path}: a prompt file needs a description, `## system`, `## user` and examples,"
      " each with `## text`, `## response` (only in a prompt for responses) and"
      " `## rewrite`; no section may be empty, and only `## user` may contain slots:"
      " {open}, {close} and, exactly once, {text}"
    )
  messages = [{"role": "system", "content": bodies[0]}]
  for i in range(2, len(bodies), len(example)):
    text, *response, rewrite = bodies[i : i + len(example)]
    content, _ = _fill_slots(bodies[1], text, "".join(response), seed=0)
    messages.append({"role": "user", "content": content})
    messages.append({"role": "assistant", "content": rewrite})
  return Prompt(name, messages, bodies[1], hashlib.sha256(data).hexdigest())


def build_request(
  prompt: Prompt, text: str, response: str | None, seed: int
) -> Request | None:
  """Builds the messages that ask for a rewrite; equal arguments give equal messages.

  Returns None if the text or response contains chat control tokens, which could end the
  user's turn and start a system turn.
  """
  if CONTROL_TOKENS.search(f"{text} {response or ''}"):
    return None
  content, number = _fill_slots(prompt.user, text, response or "", seed)
  ending = " ".join(prompt.user.split("{close}")[-1].split())
  cue = re.search(r"[^.\s][^.]*:$", ending)
  messages = [*prompt.messages, {"role": "user", "content": content}]
  return Request(messages, number, cue[0] if cue else "")


def _fill_slots(user: str, text: str, response: str, seed: int) -> tuple[str, str]:
  """Returns the user message and the number in its markers."""
  number = _marker_number(f"{text}\0{response}", seed)
  values = {"open": f"<data-{number}>", "close": f"</data-{number}>"}
  values |= {"text": text, "response": response}
  return SLOT.sub(lambda slot: values[slot[1]], user), number


def _marker_number(data: str, seed: int) -> str:
  """Returns a pseudo-random number that doesn't occur in the data."""
  key = f"{seed} {data}".encode("utf-8", "surrogatepass")
  first = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
  count = 10**DIGITS
  for i in range(count):
    number = f"{(first + i) % count:0{DIGITS}d}"
    if number not in data:
      return number
  raise UserError(
    f"a text contains every number of {DIGITS} digits, so that no marker is left for"
    " it; remove the text"
  )


def parse_rewrite(content: str, request: Request) -> str | None:
  """Extracts the rewrite from an answer; returns None if the rewrite contains markers.

  This removes the model's reasoning, a repetition of the prompt's last words, the
  markers around the rewrite, whatever their number, tokens that end a turn, and outer
  whitespace. The filters handle comments of the model, and other control tokens.
  """
  content = strip_answer(request.messages[-1]["content"], content)
  if request.cue:
    words = r"\s+".join(map(re.escape, request.cue.split()))
    content = re.sub(rf"\A[\W_]*{words}[\s*_]*", "", content, flags=re.IGNORECASE)
  # A rewrite may contain markers that are in the text itself.
  in_text = set(MARKER.findall(request.messages[-1]["content"]))
  in_text -= {f"<data-{request.number}>", f"</data-{request.number}>"}
  content = OUTER_MARKER.sub(lambda m: m[0] if m[0] in in_text else "", content).strip()
  if request.number in content or set(MARKER.findall(content)) - in_text:
    return None
  return content
