"""Prompt files, and the messages made of one: the text stands in them as data.

A prompt file's first line says what it is for; then come a part `## system` and a part
`## user`. Four slots are filled in: `{open}` and `{close}` with the lines between which
the data stands, `{text}` and, where the file has it, `{response}`. The lines carry a
number that is drawn anew for each text and does not occur in it, so that no text can
close its own bracket; and slots are filled in one pass, so that a slot written in a
text is only a text.
"""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from ssljax.errors import UserError

FOLDER = Path(__file__).with_name("prompts")
SLOT = re.compile(r"\{(open|close|text|response)\}")
PARTS = re.compile(
  r"\A(.+?)^## system\n(.+?)^## user\n(.+)\Z", re.DOTALL | re.MULTILINE
)

# What common chat templates write between turns. Some servers (llama.cpp is one) read
# these in a message too, as tokens: no marker can hold such a text back.
CONTROL = re.compile(
  r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>]{1,40}｜>|\[/?INST\]|<</?SYS>>|</s>"
  r"|<(?:start|end)_of_turn>"
)


class Prompt(NamedTuple):
  name: str
  system: str
  user: str
  sha256: str  # of the file

  @property
  def pair(self) -> bool:
    """Whether it is for a response, with its prompt as the context."""
    return "{response}" in self.user


class Marked(NamedTuple):
  """The messages of one request, and the two lines that enclose data in them."""

  messages: list[dict[str, str]]
  open: str
  close: str


def load(name: str) -> Prompt:
  """Reads `prompts/<name>.md` of this package, or a file of the user.

  Args:
    name: a bare name, or a path (one that has a slash or ends in `.md`).

  Raises:
    UserError: no such file, or one that lacks a part or a slot.
  """
  own = "/" in name or name.endswith(".md")
  path = Path(name).expanduser() if own else FOLDER / f"{name}.md"
  try:
    content = path.read_bytes()
    found = PARTS.match(content.decode().replace("\r\n", "\n"))
  except FileNotFoundError:
    known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.md")))
    raise UserError(
      f"config.prompt: no prompt {name!r}; there are {known}, or give the path of a"
      " file of your own, ending in .md"
    ) from None
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"{path}: cannot be read as a prompt: {error}") from None
  if not found:
    raise UserError(
      f"{path}: a prompt is one line that says what it is for, then `## system` and"
      " `## user`, each on a line of its own with text below it"
    )
  prompt = Prompt(
    name, found[2].strip(), found[3].strip(), hashlib.sha256(content).hexdigest()
  )
  slots = SLOT.findall(prompt.user)
  for slot in ("text", "open", "close"):
    if slots.count(slot) < 1 or (slot == "text" and slots.count(slot) > 1):
      raise UserError(f"{path}: the user part must have {{{slot}}}, and {{text}} once")
  if slots.count("response") > 1 or {"text", "response"} & set(
    SLOT.findall(prompt.system)
  ):
    raise UserError(f"{path}: {{text}} and {{response}} stand once, in the user part")
  return prompt


def build(prompt: Prompt, text: str, response: str | None, seed: int) -> Marked:
  """The messages that ask for a rewrite; the same arguments give the same messages."""
  data = text + "\0" + (response or "")
  number = _number(data, seed)
  filled = {
    "open": f"[data {number}]",
    "close": f"[end {number}]",
    "text": text,
    "response": response or "",
  }
  messages = [
    {"role": role, "content": SLOT.sub(lambda slot: filled[slot[1]], part)}
    for role, part in (("system", prompt.system), ("user", prompt.user))
  ]
  return Marked(messages, filled["open"], filled["close"])


def _number(data: str, seed: int) -> str:
  """Six digits (small models copy long ones badly) that do not occur in the data."""
  for turn in range(1_000_000):
    digest = hashlib.blake2b(
      f"{seed} {turn} {data}".encode("utf-8", "surrogatepass"), digest_size=8
    )
    number = f"{int.from_bytes(digest.digest(), 'big') % 1_000_000:06d}"
    if number not in data:
      return number
  raise UserError("a text that holds every number of six digits cannot be enclosed")


def answer(content: str, marked: Marked) -> str | None:
  """The rewrite in what a model said; None if markers stand where they should not.

  Thoughts that come first, markers that were copied around the rewrite and white space
  go. Nothing else does: what a model says about its rewrite is for the filters.
  """
  content = re.sub(r"\A\s*<think>.*?</think>", "", content, flags=re.DOTALL).strip()
  content = content.removeprefix(marked.open).removesuffix(marked.close).strip()
  number = marked.open.split()[1].rstrip("]")
  return None if number in content else content
