"""Limits the time of a generation, a step and a query, so that one query cannot hold up the end of a run.

A query that meets one fails, and the next run tries it again. An API call has the client's own limit and ends with
the query's time. `Patience` is the parent's, with whole replicas.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from evaluation.toolbench.inference.errors import EngineError, StopRequested


class TimeLimitError(EngineError):
    """Says that a generation, a step or a query took longer than it may."""


class TimeIsUp(StopRequested):
    """Says the same from a callback, of which only a StopRequested passes through a search."""


@dataclass(frozen=True)
class TimeLimits:
    """Holds limits in seconds; infinity for no limit."""

    generation_s: float = float("inf")
    step_s: float = float("inf")
    query_s: float = float("inf")


@dataclass(frozen=True)
class Patience:
    """Holds seconds. A replica without progress for `replica_s` hangs; items have `stopping_s` to come to the end of
    their step once the run is being stopped. Where an engine does not show progress within a generation,
    `generation_s` is added, and `call_s`, the limit of a call to an API, while there is one."""

    replica_s: float = 300.0
    generation_s: float = 600.0
    stopping_s: float = 5.0
    call_s: float = 0.0


class QueryClock:
    """Measures the time of one query, as a callback that notes where its steps begin."""

    def __init__(self, limits: TimeLimits) -> None:
        self._limits = limits
        self._query_start = self._step_start = time.monotonic()

    def on_chain_start(self, **_: Any) -> None:
        self.check_query()
        self._step_start = time.monotonic()

    def query_left_s(self) -> float:
        return self._query_start + self._limits.query_s - time.monotonic()

    def check_query(self) -> None:
        """Raise TimeIsUp once the query's time is over."""
        if self.query_left_s() <= 0:
            raise TimeIsUp(_message("the query", "--query_timeout", self._limits.query_s))

    def hold(self, seconds: float) -> None:
        """Let the clock stand still for what was waited before a generation, which is nobody's fault."""
        self._query_start += seconds
        self._step_start += seconds

    def tightest(self) -> tuple[float, str]:
        """Return the seconds that a generation which begins now may take, and what to say when they are over."""
        now, limits = time.monotonic(), self._limits
        return min(
            (limits.generation_s, _message("a generation", "--generation_timeout", limits.generation_s)),
            (self._step_start + limits.step_s - now, _message("a step", "--step_timeout", limits.step_s)),
            (self.query_left_s(), _message("the query", "--query_timeout", limits.query_s)),
        )


class StopBetweenSteps:
    """Ends a query before its next step, as a callback of the search algorithms."""

    def __init__(self, requested: threading.Event) -> None:
        self._requested = requested

    def on_chain_start(self, **_: Any) -> None:
        if self._requested.is_set():
            raise StopRequested


def _message(what: str, flag: str, seconds: float) -> str:
    return f"{what} took longer than {seconds:g} s, the limit of {flag}; it is tried again by the next run"
