"""Runs what may never end, and waits for it until a time limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import NoReturn, TypeVar

T = TypeVar("T")


def within(timeout_s: float, work: Callable[[], T]) -> T:
    """Return or raise what `work` does. TimeoutError after `timeout_s`: it then goes on in its own thread, unheard."""
    outcome: SimpleQueue[Callable[[], T]] = SimpleQueue()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # whatever it raises belongs to the caller
            outcome.put(partial(_reraise, error))
        except SystemExit as error:  # a tool's own code may not end the run
            outcome.put(partial(_reraise, RuntimeError(f"it called exit({error.code!r})")))
        else:
            outcome.put(lambda: result)

    threading.Thread(target=run, name="time-limit", daemon=True).start()
    try:
        result_or_error = outcome.get(timeout=timeout_s)
    except Empty:
        raise TimeoutError(f"no result within {timeout_s:g} s") from None
    return result_or_error()


def _reraise(error: Exception) -> NoReturn:
    raise error
