"""What a replica has done so far: counted in its threads, told to the parent."""

from __future__ import annotations

import threading
from collections.abc import Callable

from evaluation.toolbench.inference.records.finish import FINAL_ANSWER, FINISH_NAME, GAVE_UP
from evaluation.toolbench.inference.replicas.messages import Beat


class Meter:
    """Counts of one replica. `engine_steps` tells how far an engine is that can say so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events = 0  # generations and calls that have ended
        self._num_tokens = 0
        self._api_calls = 0
        self._api_errors = 0
        self._calls_in_flight = 0
        self.engine_steps: Callable[[], int] | None = None

    def generation_ended(self, num_tokens: int) -> None:
        with self._lock:
            self._events += 1
            self._num_tokens += num_tokens

    def call_began(self) -> None:
        with self._lock:
            self._calls_in_flight += 1

    def call_ended(self, *, is_error: bool) -> None:
        with self._lock:
            self._events += 1
            self._calls_in_flight -= 1
            self._api_calls += 1
            self._api_errors += is_error

    def beat(self) -> Beat:
        steps = self.engine_steps() if self.engine_steps else 0
        with self._lock:
            return Beat(
                self._events + steps, self._num_tokens, self._api_calls, self._api_errors, self._calls_in_flight
            )


class ApiMeter:
    """A search's callback that counts API calls. One for each conversation, as a call's end does not name it."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._name = ""

    def on_tool_start(self, depth: int, tool_name: str, tool_input: str) -> None:
        self._name = tool_name
        if self._name != FINISH_NAME:  # answered without an API
            self._meter.call_began()

    def on_tool_end(self, depth: int, output: str, status: int) -> None:
        if self._name != FINISH_NAME:
            self._meter.call_ended(is_error=status not in (0, FINAL_ANSWER, GAVE_UP))
