"""StopSignals: the first signal asks to stop, a second Ctrl-C stops at once."""

import os
import signal
import threading

import pytest

from ssljax.errors import INTERRUPTED, TERMINATED
from ssljax.runtime.signals import EXIT_CODES, StopSignals


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


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_repeated_sigterm_is_ignored(first):
  unhandled = []
  before = signal.signal(signal.SIGTERM, lambda *args: unhandled.append(args))
  try:
    with StopSignals() as stop:
      for number in (first, signal.SIGTERM, signal.SIGTERM):
        os.kill(os.getpid(), number)
      assert stop.code == EXIT_CODES[first]
  finally:
    signal.signal(signal.SIGTERM, before)
  assert unhandled == []


def test_an_interrupt_after_a_sigterm_is_the_first_one():
  with StopSignals() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
    assert stop.code == TERMINATED


def test_a_handler_that_python_did_not_install_is_left_alone(monkeypatch):
  before = signal.getsignal(signal.SIGTERM)
  with monkeypatch.context() as patch:
    patch.setattr(signal, "getsignal", lambda number: None)
    with StopSignals(signals=(signal.SIGTERM,)):
      patch.undo()
      assert signal.getsignal(signal.SIGTERM) is before
  assert signal.getsignal(signal.SIGTERM) is before


def test_an_ignored_signal_stays_ignored():
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a background job
  try:
    with StopSignals() as stop:
      os.kill(os.getpid(), signal.SIGINT)
      assert not stop
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
  finally:
    signal.signal(signal.SIGINT, before)


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
