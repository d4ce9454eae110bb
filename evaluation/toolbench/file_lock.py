"""Locks open files, on file systems that may have no locks, or whose lock server is gone.

On NFS a request for a lock can hang for ever, even one that asks not to wait. So it is made in a thread of its
own that may be left behind, and the caller gets an answer in any case.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path
from typing import Literal

from evaluation.toolbench.time_limit import within

logger = logging.getLogger(__name__)

Outcome = Literal["held", "busy", "unsupported"]

# A local file system answers in microseconds; a lock server that restarts in seconds.
PATIENCE_S = 10.0
_NO_ANSWER_S = PATIENCE_S + 1.0
_LOOK_AGAIN_S = 0.01

_without_locks: set[int] = set()  # devices (st_dev) where locks do not work, as far as this process has seen


def lock(descriptor: int, path: Path, *, wait: bool, shared: bool = False) -> Outcome:
    """Ask for the lock of an open file, which goes when the file is closed; others may hold it too if it is `shared`.

    With `wait` it is asked for until its holder gives it up, for `PATIENCE_S` at most. "unsupported" says that this
    file system gives no locks, or no answer within that time; the first time it is logged with `path`, and that
    file system is not asked again.
    """
    device = os.fstat(descriptor).st_dev
    if device in _without_locks:
        return "unsupported"
    try:
        error = _ask(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, PATIENCE_S if wait else 0.0)
    except TimeoutError:
        reason = f"answers no request for a lock (waited {_NO_ANSWER_S:g} s)"
    else:
        if error is None:
            return "held"
        if isinstance(error, BlockingIOError):
            return "busy"
        reason = f"has no locks ({error.strerror})"
    _without_locks.add(device)
    logger.warning(
        "the file system of %s %s: see that no other run uses this folder, nothing else keeps runs apart there",
        path.parent,
        reason,
    )
    return "unsupported"


def _ask(descriptor: int, kind: int, patience_s: float) -> OSError | None:
    """Return None for a lock, else the error that came instead. TimeoutError when nothing came."""
    # The thread's own: the number may have passed to another file when the answer comes at last. The lock belongs
    # to the open file, which both share, so closing this one leaves it to the caller.
    own = os.dup(descriptor)

    def ask() -> OSError | None:
        deadline = time.monotonic() + patience_s
        try:
            while True:
                try:
                    fcntl.flock(own, kind | fcntl.LOCK_NB)
                    return None
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        return error
                time.sleep(_LOOK_AGAIN_S)
        except OSError as error:
            return error
        finally:
            os.close(own)

    return within(_NO_ANSWER_S, ask)
