"""No cancel is lost, whatever the main thread of a worker does when the signal arrives."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

START = """
import threading, time
from strongroom.worker import _signals
_signals.raise_on_signals()
def ready(): print("ready", flush=True)
"""
PLACES = {
    "an error handler": """
try:
    ready()
    time.sleep(60)
except Exception:
    pass
time.sleep(60)
""",
    "a finalizer": """
class Open:
    def __del__(self):
        ready()
        time.sleep(60)
Open()
time.sleep(60)
""",
    "a lock": """
lock = threading.Lock()
lock.acquire()
ready()
lock.acquire()
""",
}
"""What the main thread does when the signal arrives."""


def run(script: str) -> subprocess.Popen[str]:
    """Run it until it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", START + script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", finish(process)
    return process


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Its output, once it has ended. It is killed if it does not."""
    try:
        return process.communicate(timeout=30)
    finally:
        process.kill()


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_ends_the_main_thread(place: str) -> None:
    process = run(PLACES[place])
    process.send_signal(signal.SIGTERM)
    _, said = finish(process)
    assert said.rstrip().endswith("Interrupted")


def test_a_signal_that_another_thread_gets_ends_the_main_thread() -> None:
    process = run("""
def take():
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
import signal
threading.Timer(0.5, take).start()
ready()
threading.Lock().acquire() and threading.Event().wait()
""")
    _, said = finish(process)
    assert said.rstrip().endswith("Interrupted")


def test_the_cleanup_is_not_interrupted() -> None:
    process = run("""
try:
    ready()
    time.sleep(60)
finally:
    try:
        time.sleep(1)
        raise OSError("the store does not answer")
    except OSError:
        time.sleep(1)
    print("removed", flush=True)
""")
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    out, said = finish(process)
    assert (out, time.monotonic() - began > 1.9) == ("removed\n", True)
    assert said.rstrip().endswith("Interrupted")


def test_a_thread_that_was_waited_for_has_not_ended() -> None:
    process = run("""
from strongroom.datastores.toolkit.feed import Background
over = threading.Event()
thread = Background("feeder", over.wait)
try:
    ready()
    thread.finish()
finally:
    print(thread.ends(0.5), flush=True)
    over.set()
    print(thread.ends(30), flush=True)
""")
    process.send_signal(signal.SIGINT)
    out, said = finish(process)
    assert out == "False\nTrue\n", said
