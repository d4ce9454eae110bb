"""Holds queries back between two generations while more run than the KV cache carries; `admission` says how many."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from evaluation.toolbench.inference.replicas.admission import Admission


class Gate:
    """Lets the oldest `number` queries start a generation at once, from any thread; the others wait.

    `use` reads the engine: tokens that pages are held for, and sequences that were paused again without progress.
    """

    def __init__(self, admission: Admission, use: Callable[[], tuple[int, int]]) -> None:
        self._admission = admission
        self._use = use
        self._changed = threading.Condition()
        self._inside: dict[Hashable, None] = {}  # queries that have generated or want to, the oldest first
        self._is_open = False
        self.number = admission.number(0, used_tokens=0, repeated_pauses=0)

    def enter(self, query: Hashable) -> float:
        """Wait until this query may generate, and return how many seconds that took."""
        start = time.monotonic()
        with self._changed:
            self._inside.setdefault(query)
            self._changed.wait_for(lambda: self._is_open or self._may_pass(query))
        return time.monotonic() - start

    def grew(self, query: Hashable, num_tokens: int) -> None:
        """Note the length of a query's conversation."""
        with self._changed:
            if query in self._inside:
                self._admission.grew(query, num_tokens)

    def leave(self, query: Hashable) -> None:
        """Note that a query is over."""
        with self._changed:
            self._inside.pop(query, None)
            self._admission.ended(query)
            self._changed.notify_all()

    def look(self, in_flight: int) -> int:
        """Decide anew how many there should be while `in_flight` are, wake those that may go on, return the number."""
        used_tokens, repeated_pauses = self._use()
        with self._changed:
            self.number = self._admission.number(in_flight, used_tokens=used_tokens, repeated_pauses=repeated_pauses)
            self._changed.notify_all()
            return self.number

    def open(self) -> None:
        """Hold nothing back any more: the run is being stopped, and what has begun comes to the end of its step."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def _may_pass(self, query: Hashable) -> bool:
        for position, other in enumerate(self._inside):
            if position >= self.number:
                return False
            if other == query:
                return True
        return True  # it has left: nobody waits for it
