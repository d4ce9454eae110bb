"""Notices that another process has ended, says how, and keeps what it printed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from typing import IO

_PR_SET_PDEATHSIG = 1  # of prctl(2)


def die_with_parent() -> None:
    """Let the kernel, on Linux, kill this process when the thread that started it has ended.

    That also ends a process which is stopped, or in which no Python can run.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # elsewhere there is no such call
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def when_process_ends(pid: int, then: Callable[[], None]) -> None:
    """Call `then` from a thread of its own once process `pid` is gone; at once if it already is."""

    def watch() -> None:
        try:
            # Waits for this very process, even if its number is given to another one later.
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            pass
        except (AttributeError, OSError):  # not Linux, or a kernel before 5.3
            while _exists(pid):
                time.sleep(0.5)
        else:
            select.select([handle], [], [])
        then()

    threading.Thread(target=watch, name="process-watch", daemon=True).start()


def how_it_ended(code: int, last_line: str = "") -> str:
    """Put the exit code that `subprocess` gives into words; `last_line` is the last that the process printed."""
    if code == -signal.SIGKILL:
        return "it was killed (SIGKILL; by the system, if memory ran out)"
    if code < 0:
        name = signal.Signals(-code).name if -code in {each.value for each in signal.Signals} else str(-code)
        return f"it was ended by {name}" + (f": {last_line}" if last_line else "")
    return f"it ended with exit code {code}" + (f": {last_line}" if last_line else "")


def unnamed_file(name: str) -> IO[bytes]:
    """Open a file for what a process reads or prints, which goes with those who have it open.

    It is in memory where the system has such files, so that a full disk stops no process.
    """
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create(name), "w+b")
    return tempfile.TemporaryFile()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
