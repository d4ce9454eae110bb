"""Noticing that another process has ended."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable


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


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
