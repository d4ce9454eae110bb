"""A signal stops a run between steps; a second one ends it at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from evaluation.toolbench.inference.Algorithms.events import Events
from evaluation.toolbench.inference.command_line import ENDING_SIGNALS
from evaluation.toolbench.inference.errors import StopRequested
from evaluation.toolbench.inference.replicas.limits import StopBetweenSteps
from evaluation.toolbench.inference.run.interruption import STOPPING, Interruption
from tests.helpers.pipeline import ROOT

BUSY = """
    import threading, time
    from evaluation.toolbench.inference.run.interruption import Interruption
    threading.Thread(target=time.sleep, args=(60,)).start()  # a generation that does not end
    with Interruption() as interruption:
        print("ready", flush=True)
        interruption.requested.wait(60)
        print("asked", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_process_whatever_its_threads_do(number):
    code = textwrap.dedent(BUSY)
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == b"asked\n"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=50)
    assert process.returncode == 128 + number
    assert stderr.strip().decode() == STOPPING


def test_the_first_signal_only_asks_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert interruption.requested.is_set()
        assert interruption.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_terminal_that_says_twice_that_it_was_closed_ends_nothing_at_once():
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert interruption.exit_code == 128 + signal.SIGHUP


def test_ignored_signals_stay_ignored(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGINT)
            assert interruption.exit_code is None
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_a_signal_before_the_run_ends_the_process_also_within_code_that_swallows_exceptions(number):
    """Imports of numpy and torch are such code, at which half a library remained and the run went on with it."""
    code = f"""
import signal
from evaluation.toolbench.inference.command_line import end_at_once, signals_taken_by
with signals_taken_by(end_at_once):
    try:
        signal.raise_signal({int(number)})
    except BaseException:
        pass
print("went on")
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (128 + number, "", "")


def test_a_run_outside_the_main_thread_can_be_asked_to_stop():
    interruption = Interruption()

    def run():
        with interruption:
            interruption.request()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert interruption.requested.is_set()


def test_a_query_stops_before_its_next_step_and_not_within_one():
    requested = threading.Event()
    events = Events([StopBetweenSteps(requested)])
    events.send("on_chain_start", depth=0, inputs=[])
    requested.set()
    for within in ("on_llm_start", "on_llm_end", "on_tool_start", "on_chain_end"):
        events.send(within, depth=0)
    with pytest.raises(StopRequested):
        events.send("on_chain_start", depth=1, inputs=[])
