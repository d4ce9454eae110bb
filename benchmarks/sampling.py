"""Calls something again and again beside what is measured, on a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def sampling(sample: Callable[[], None], interval_s: float) -> Iterator[None]:
    """Call `sample` every `interval_s` until the end of the block, which waits for a call that runs."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(interval_s):
            sample()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
