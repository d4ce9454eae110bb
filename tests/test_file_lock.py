"""Locks where there are none, and where they never come."""

import errno
import fcntl
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from evaluation.toolbench import file_lock
from evaluation.toolbench.inference.errors import OutputError
from evaluation.toolbench.inference.records.lock import RunLock
from tests.helpers.pipeline import ROOT


@pytest.fixture
def no_device_is_known(monkeypatch):
    monkeypatch.setattr(file_lock, "_without_locks", set())


@pytest.fixture
def no_locks(monkeypatch, no_device_is_known):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.fixture
def lock_that_never_comes(monkeypatch, no_device_is_known):
    ended = threading.Event()
    monkeypatch.setattr(fcntl, "flock", lambda *_: ended.wait(100))
    monkeypatch.setattr(file_lock, "_NO_ANSWER_S", 0.2)
    yield
    ended.set()


def test_a_lock_belongs_to_the_open_file_and_goes_with_it(tmp_path, no_device_is_known):
    path = tmp_path / "lock"
    with path.open("w") as first, path.open("w") as second:
        assert file_lock.lock(first.fileno(), path, wait=False) == "held"
        assert file_lock.lock(second.fileno(), path, wait=False) == "busy"
        first.close()
        assert file_lock.lock(second.fileno(), path, wait=False) == "held"


def test_a_lock_that_is_waited_for_comes_when_its_holder_goes(tmp_path, no_device_is_known):
    path = tmp_path / "lock"
    with path.open("w") as first, path.open("w") as second:
        file_lock.lock(first.fileno(), path, wait=False)
        outcome = []
        waiter = threading.Thread(
            target=lambda: outcome.append(file_lock.lock(second.fileno(), path, wait=True)), daemon=True
        )
        waiter.start()
        first.close()
        waiter.join(60)
        assert outcome == ["held"]


def test_a_file_system_without_locks_is_named_once(tmp_path, no_locks, caplog):
    for _ in range(3):
        with RunLock(tmp_path):
            pass
    [record] = caplog.records
    assert f"{tmp_path} has no locks (No locks available)" in record.message


def test_a_lock_that_never_comes_is_given_up_and_named_once(tmp_path, lock_that_never_comes, caplog):
    for _ in range(3):
        with RunLock(tmp_path):
            pass
    [record] = caplog.records
    assert "answers no request for a lock" in record.message


def test_without_locks_a_run_that_is_alive_here_still_has_its_folder(tmp_path):
    code = f"""
        from pathlib import Path
        from evaluation.toolbench.inference.records.lock import RunLock
        with RunLock(Path({str(tmp_path)!r})):
            print("held", flush=True)
            input()
    """
    without_locks = "import fcntl\ndef flock(*_): raise OSError(95, 'no')\nfcntl.flock = flock\n"
    code = without_locks + textwrap.dedent(code)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes)
    assert holder.stdout.readline() == b"held\n"
    again = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, input="\n")
    assert f"in use by another run (process {holder.pid} on" in again.stderr
    holder.kill()
    holder.wait()
    after = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, input="\n")
    assert after.stdout == "held\n", after.stderr


def test_a_pipe_in_place_of_the_lock_is_refused(tmp_path):
    os.mkfifo(tmp_path / ".run.lock")
    with pytest.raises(OutputError, match="a pipe or a device"):
        RunLock(tmp_path).acquire()


def test_shards_share_a_folder_with_each_other_and_with_nobody_else(tmp_path):
    with RunLock(tmp_path, shard="1of2"):
        with RunLock(tmp_path, shard="2of2"):
            for shard in ("", "1of2"):
                with pytest.raises(OutputError, match="in use by another run"):
                    RunLock(tmp_path, shard=shard).acquire()
        with pytest.raises(OutputError, match="in use by another run"):
            RunLock(tmp_path).acquire()  # the second has ended, the first goes on
    with RunLock(tmp_path), pytest.raises(OutputError, match="in use by another run"):
        RunLock(tmp_path, shard="1of2").acquire()
