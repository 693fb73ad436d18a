"""StopSignals: the first signal asks, the second stops; handlers are restored."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from ssljax.errors import INTERRUPTED, TERMINATED
from ssljax.runtime.signals import StopSignals


@pytest.mark.parametrize(
  ("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)]
)
def test_the_first_signal_sets_the_exit_code(number, code):
  heard = []
  before = signal.getsignal(number)
  with StopSignals(on_stop=lambda: heard.append(1)) as stop:
    assert not stop
    os.kill(os.getpid(), number)
    assert stop
    assert stop.code == code
  assert heard == [1]
  assert signal.getsignal(number) is before


def test_the_second_interrupt_raises():
  with StopSignals() as stop:
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
    assert stop.code == INTERRUPTED


def test_the_second_signal_calls_abort():
  codes = []
  with StopSignals(abort=codes.append):
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
  assert codes == [TERMINATED]


def test_a_second_sigterm_ends_the_process():
  code = (
    "import os, signal, time\n"
    "from ssljax.runtime.signals import StopSignals\n"
    "with StopSignals():\n"
    "  for _ in range(2): os.kill(os.getpid(), signal.SIGTERM)\n"
    "  time.sleep(60)\n"
  )
  done = subprocess.run([sys.executable, "-c", code], timeout=30)
  assert done.returncode == -signal.SIGTERM


def test_a_handler_taken_by_a_library_can_be_taken_back():
  with StopSignals() as stop:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stop.install()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.code == TERMINATED


def test_outside_the_main_thread_nothing_is_installed():
  before = signal.getsignal(signal.SIGTERM)
  seen = []

  def work():
    with StopSignals() as stop:
      seen.append((stop.code, signal.getsignal(signal.SIGTERM)))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [(0, before)]
