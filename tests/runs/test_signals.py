import os
import signal
import subprocess
import sys
import threading

import pytest

from uae.runs.signals import StopSignals

LOOP = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from uae.runs.signals import StopSignals
with StopSignals() as stop:
    print("ready", flush=True)
    while not stop.requested:
        time.sleep(0.01)
    print("finishing", flush=True)
    if "slow" in sys.argv:
        time.sleep(60)
sys.exit(128 + stop.number)
"""


@pytest.fixture
def handlers():
    """Give the test Python's usual handlers, whatever the test runner set."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_sets_the_flag_second_is_left_to_the_system(handlers, number, capfd):
    with StopSignals() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        assert stop.number == number
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert f"{signal.Signals(number).name}: finishing this step" in capfd.readouterr().err


def test_what_is_ignored_stays_ignored(handlers):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_outside_the_main_thread_nothing_is_installed(handlers):
    seen = []

    def work():
        with StopSignals() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, signal.default_int_handler)]


def start_loop(*arguments):
    loop = subprocess.Popen(
        [sys.executable, "-c", LOOP, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert loop.stdout is not None
    assert loop.stdout.readline() == "ready\n"
    return loop


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_loop_finishes_and_says_why(number, code):
    with start_loop() as loop:
        loop.send_signal(number)
        assert loop.wait(timeout=20) == code
        assert loop.stdout.read() == "finishing\n"


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_kills_at_once(second):
    with start_loop("slow") as loop:
        loop.send_signal(signal.SIGTERM)
        assert loop.stdout.readline() == "finishing\n"
        loop.send_signal(second)
        assert loop.wait(timeout=2) == -second
