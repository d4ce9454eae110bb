"""Counts what one replica has done, for its beats to the parent."""

from __future__ import annotations

import threading
from collections.abc import Callable

from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.replicas.gate import Gate
from evaluation.toolbench.inference.replicas.messages import Beat
from evaluation.toolbench.virtual_api.replies import CacheMatch


class Meter:
    """Counts generations, calls and items; from any thread.

    `engine_steps`, `engine_tokens` and `engine_prompt_tokens` tell how far an engine is that can say so: then its
    tokens count when they are drawn, else when their generation ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events = 0  # generations and calls that have ended
        self._num_tokens = 0
        self._num_texts = 0
        self._num_cut = 0
        self._api_calls = 0
        self._api_errors = 0
        self._cache = CacheUse()
        self._calls_in_flight = 0
        self._items_in_flight = 0
        self.gate: Gate | None = None  # where the number of conversations follows the KV cache
        self.engine_steps: Callable[[], int] | None = None
        self.engine_tokens: Callable[[], int] | None = None
        self.engine_prompt_tokens: Callable[[], int] | None = None
        self.is_compiling = False

    def generation_ended(self, num_tokens: int, was_cut: bool | None = None) -> None:
        """Count one; `was_cut` says whether a text ended at the longest length, None that it was not a text."""
        with self._lock:
            self._events += 1
            self._num_tokens += num_tokens
            self._num_texts += was_cut is not None
            self._num_cut += bool(was_cut)

    def item_began(self) -> None:
        with self._lock:
            self._items_in_flight += 1

    def item_ended(self) -> None:
        with self._lock:
            self._items_in_flight -= 1

    def call_began(self) -> None:
        with self._lock:
            self._calls_in_flight += 1

    def call_ended(self, *, is_error: bool, cache: CacheMatch | None = None) -> None:
        """Count one; `cache` is what the server's cache had for it."""
        with self._lock:
            self._events += 1
            self._calls_in_flight -= 1
            self._api_calls += 1
            self._api_errors += is_error
            self._cache += CacheUse.of(cache)

    def beat(self) -> Beat:
        steps = self.engine_steps() if self.engine_steps else 0
        number = self.gate.look(self._items_in_flight) if self.gate else 0
        with self._lock:
            return Beat(
                self._events + steps,
                self.engine_tokens() if self.engine_tokens else self._num_tokens,
                self._api_calls,
                self._api_errors,
                self._cache,
                self._calls_in_flight,
                self._num_texts,
                self._num_cut,
                number,
                self.engine_prompt_tokens() if self.engine_prompt_tokens else 0,
                self.is_compiling,
            )
