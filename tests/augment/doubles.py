"""Functions for the custom engine that make views by a rule.

Environment variables control `reverse` and `refuse_even`: QUERIES (a file that gets a
line for each text), KILL (where the process kills itself), SLOW (seconds for each
text).
"""

import os
import signal
import sys
import threading
import time

from ssljax.augment import storage
from ssljax.augment.engine import Candidate


def reverse(sources, attempt):
  """Reverses the words."""
  return [[_reverse(source, attempt)] for source in sources]


def refuse_even(sources, attempt):
  """Refuses texts that end in an even number at the first query."""
  views = []
  for source in sources:
    text = _reverse(source, attempt)
    refuses = attempt == 0 and int(source.text.split()[-1]) % 2 == 0
    views.append(["I cannot help with that." if refuses else text])
  return views


def reverse_first(sources):
  """Reverses the words of the text with number 0, and repeats the others."""
  reverse = lambda text: " ".join(text.split()[::-1])
  return [[reverse(s.text) if s.text.endswith(" 0") else s.text] for s in sources]


def repeat(sources):
  return [[source.text] for source in sources]


def unreachable(sources):
  """Fails as if the server didn't answer."""
  return [[Candidate(problem="no connection", transient=True)] for _ in sources]


def nearly_unreachable(sources):
  """Answers for one text only."""
  return [
    [" ".join(s.text.split()[3:] + s.text.split()[:3])] if s.id == "row-7" else failure
    for s, failure in zip(sources, unreachable(sources), strict=True)
  ]


def three_views(sources):
  """Returns two different views and a copy."""
  words = [source.text.split() for source in sources]
  return [
    [" ".join(w[::-1]), " ".join(w[::-1]), " ".join(w[1:] + w[:1])] for w in words
  ]


def rotate(sources):
  words = [source.text.split() for source in sources]
  return [[" ".join(w[2:] + w[:2])] for w in words]


def _reverse(source, attempt):
  if path := os.environ.get("QUERIES"):
    with open(path, "a") as file:
      file.write(f"{attempt} {source.text}\n")
    with open(path) as file:
      count = len(file.readlines())
    if os.environ.get("KILL") == f"text {count}":
      _kill()
  if os.environ.get("KILL") == f"idle after {source.id}":
    threading.Thread(target=_kill_when_idle, daemon=True).start()
  time.sleep(float(os.environ.get("SLOW", "0")))
  return " ".join(source.text.split()[::-1])


def _kill_when_idle():
  """Waits until the main thread waits for the next shard."""
  main = threading.main_thread().ident
  while sys._current_frames()[main].f_code.co_name != "_recv":
    time.sleep(0.05)
  _kill()


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
