"""Processes that end with the one that started them."""

import os
import signal
import subprocess
import sys

import pytest

from ssljax.runtime import children

PARENT = """
import sys
from ssljax.runtime import children
child = children.start(["sleep", "60"])
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl of Linux")
def test_a_kill_of_the_parent_kills_the_child():
  parent = subprocess.Popen(
    [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  )
  child = int(parent.stdout.readline())
  assert os.getpgid(child) == child  # Ctrl-C doesn't reach it
  parent.send_signal(signal.SIGKILL)
  # Returns when nobody has the pipe open anymore; otherwise, the child has it for 60 s.
  parent.communicate(timeout=30)


def test_a_child_uses_only_its_cores():
  core = min(os.sched_getaffinity(0))
  code = "import os; print(os.sched_getaffinity(0))"
  child = children.start([sys.executable, "-c", code], [core], stdout=subprocess.PIPE)
  assert child.communicate()[0].decode() == f"{{{core}}}\n"
