"""Prompt files, and the messages made of one: the text stands in them as data.

A prompt file's first line says what it is for. Parts follow, each under its heading:
`## system`; `## user` with the slots `{open}` and `{close}` for the lines between which
data stands, `{text}` and, where it is for responses, `{response}`; then any number of
examples, `## text` (`## response`) and `## rewrite`, which become turns of their own.

The lines carry a number that is drawn anew for each text and does not occur in it, so
that no text can close its own bracket; and slots are filled in one pass, so that a slot
written in a text is only a text. All but the last message is the same for every text:
servers that keep prefixes read it once.
"""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from ssljax.errors import UserError

FOLDER = Path(__file__).with_name("prompts")
SLOT = re.compile(r"\{(open|close|text|response)\}")
HEADING = re.compile(r"^## (system|user|text|response|rewrite)\n", re.MULTILINE)

DIGITS = 6  # of a marker: small models copy longer ones badly

# What common chat templates write between turns. Some servers (llama.cpp is one) read
# these in a message too, as tokens: no marker can hold such a text back.
CONTROL = re.compile(
  r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>]{1,40}｜>|<</?SYS>>|</s>|<(?:bos|eos)>|</?think>"
  r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK)\]"
  r"|<(?:start_of_turn|end_of_turn|end_of_utterance)>"
)


MARKER = re.compile(r"</?data-\d+>")


class Prompt(NamedTuple):
  name: str
  system: str
  user: str
  examples: tuple[tuple[str, str | None, str], ...]  # (text, response, rewrite)
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
  cue: str  # the last words of the prompt, which ask for the rewrite; "" if none do


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
    _, *parts = HEADING.split(content.decode().replace("\r\n", "\n"))
  except FileNotFoundError:
    known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.md")))
    raise UserError(
      f"config.prompt: no prompt {name!r}; there are {known}, or give the path of a"
      " file of your own, ending in .md"
    ) from None
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"{path}: cannot be read as a prompt: {error}") from None
  headings, bodies = parts[::2], [body.strip() for body in parts[1::2]]
  slots = SLOT.findall(bodies[1]) if headings[:2] == ["system", "user"] else []
  each = ["text", "response", "rewrite"] if "response" in slots else ["text", "rewrite"]
  wanted = ["system", "user"] + each * ((len(headings) - 2) // len(each))
  if headings != wanted or not all(bodies) or SLOT.search(bodies[0]):
    raise UserError(
      f"{path}: a prompt is a line that says what it is for, `## system`, `## user` and"
      " examples, each `## text` and `## rewrite` (with `## response` between them if"
      " it is for responses); none is empty, and slots stand in the user part only"
    )
  once = slots.count("text") == 1 and slots.count("response") <= 1
  if not once or not {"open", "close"} <= set(slots):
    raise UserError(
      f"{path}: the user part must have {{open}}, {{close}}, and {{text}} once"
    )
  examples = tuple(
    (bodies[i], bodies[i + 1] if len(each) == 3 else None, bodies[i + len(each) - 1])
    for i in range(2, len(bodies), len(each))
  )
  return Prompt(name, *bodies[:2], examples, hashlib.sha256(content).hexdigest())


def build(prompt: Prompt, text: str, response: str | None, seed: int) -> Marked:
  """The messages that ask for a rewrite; the same arguments give the same messages."""
  messages = [{"role": "system", "content": prompt.system}]
  for shown, reply, rewrite in prompt.examples:
    content, _, _ = _fill(prompt.user, shown, reply, 0)
    messages += [
      {"role": "user", "content": content},
      {"role": "assistant", "content": rewrite},
    ]
  content, first, last = _fill(prompt.user, text, response, seed)
  ending = " ".join(prompt.user.split("{close}")[-1].split())
  cue = re.search(r"[^.\s][^.]*:$", ending)
  messages.append({"role": "user", "content": content})
  return Marked(messages, first, last, cue[0] if cue else "")


def _fill(
  user: str, text: str, response: str | None, seed: int
) -> tuple[str, str, str]:
  """The user part with its slots filled, and the two lines around data."""
  number = _number(f"{text}\0{response or ''}", seed)
  filled = {
    "open": f"<data-{number}>",
    "close": f"</data-{number}>",
    "text": text,
    "response": response or "",
  }
  content = SLOT.sub(lambda slot: filled[slot[1]], user)
  return content, filled["open"], filled["close"]


def _number(data: str, seed: int) -> str:
  """A number that does not occur in the data, the same one next time."""
  digest = hashlib.blake2b(
    f"{seed} {data}".encode("utf-8", "surrogatepass"), digest_size=8
  )
  first, count = int.from_bytes(digest.digest(), "big"), 10**DIGITS
  for turn in range(count):
    number = f"{(first + turn) % count:0{DIGITS}d}"
    if number not in data:
      return number
  raise UserError("a text that holds every number of six digits cannot be enclosed")


def answer(content: str, marked: Marked) -> str | None:
  """The rewrite in what a model said; None if markers stand where they should not.

  Thoughts that come first, the prompt's last words said again, markers around the
  rewrite (with whatever number) and white space go. Nothing else does: what a model
  says about its rewrite is for the filters.
  """
  content = re.sub(r"\A\s*<think>.*?</think>", "", content, flags=re.DOTALL).strip()
  if marked.cue:
    words = r"\s+".join(map(re.escape, marked.cue.split()))
    content = re.sub(rf"\A[\W_]*{words}[\s*_]*", "", content, flags=re.IGNORECASE)
  # Markers that the text itself holds are a part of it.
  own = set(MARKER.findall(marked.messages[-1]["content"])) - {
    marked.open,
    marked.close,
  }
  ends = [MARKER.match(content), *list(MARKER.finditer(content))[-1:]]
  first, last = ends[0], ends[-1]
  if last and last.end() == len(content) and last[0] not in own:
    content = content[: last.start()].rstrip()
  if first and first[0] not in own:
    content = content[first.end() :].lstrip()
  number = re.sub(r"\D", "", marked.open)
  if number in content or set(MARKER.findall(content)) - own:
    return None
  return content
