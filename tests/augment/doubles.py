"""Test doubles that the custom engine calls: views by rule, calls noted in a file.

The environment says what happens: NOTE (file that gets a line for each text asked for),
KILL (where the process kills itself), SLOW (seconds a text).
"""

import os
import signal
import time

from ssljax.augment import storage
from ssljax.augment.engine import Candidate


def backwards(sources, attempt):
  """The words of the text from the last to the first."""
  return [[_view(source, attempt)] for source in sources]


def stubborn(sources, attempt):
  """Refuses texts with an even number until asked a second time."""
  views = []
  for source in sources:
    text = _view(source, attempt)
    even = int(source.text.split()[-1]) % 2 == 0
    views.append(["I cannot help with that." if even and not attempt else text])
  return views


def once(sources):
  """Repeats each text but that with number 0."""
  turned = lambda text: " ".join(text.split()[::-1])
  return [[turned(s.text) if s.text.endswith(" 0") else s.text] for s in sources]


def never(sources):
  return [[source.text] for source in sources]


def down(sources):
  """A server that does not answer."""
  return [[Candidate(problem="no connection", passing=True)] for _ in sources]


def half_down(sources):
  """Answers for one text, the other requests get no answer."""
  return [
    [" ".join(s.text.split()[3:] + s.text.split()[:3])] if s.id == "row-7" else none
    for s, none in zip(sources, down(sources), strict=True)
  ]


def thrice(sources):
  words = [source.text.split() for source in sources]
  return [
    [" ".join(w[::-1]), " ".join(w[::-1]), " ".join(w[1:] + w[:1])] for w in words
  ]


def rotated(sources):
  words = [source.text.split() for source in sources]
  return [[" ".join(w[2:] + w[:2])] for w in words]


def _view(source, attempt):
  if note := os.environ.get("NOTE"):
    with open(note, "a") as file:
      file.write(f"{attempt} {source.text}\n")
    with open(note) as file:
      seen = len(file.readlines())
    if os.environ.get("KILL") == f"text {seen}":
      _kill()
  time.sleep(float(os.environ.get("SLOW", "0")))
  return " ".join(source.text.split()[::-1])


def _kill(*_):
  os.kill(os.getpid(), signal.SIGKILL)


KILL = os.environ.get("KILL", "")
if KILL == "before the swap":
  storage.swap = _kill
elif KILL == "after the swap":
  _exchange = storage._exchange
  storage._exchange = lambda *paths: (_exchange(*paths), _kill())
elif KILL in ("between two renames", "after two renames"):
  _rename, _renamed = os.rename, []

  def _rename_and_die(*paths):
    _rename(*paths)
    _renamed.append(paths)
    if len(_renamed) == (1 if KILL.startswith("between") else 2):
      _kill()

  storage._exchange = lambda *paths: False
  os.rename = _rename_and_die
