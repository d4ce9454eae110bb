"""Limits on the time of a generation, a step and a query, so that one query cannot hold up the end of a run.

A query that meets one fails, and the next run tries it again. An API call has the client's own limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from evaluation.toolbench.inference.engine.request import (
    Engine,
    GenerationRequest,
    GenerationResult,
    ScoringRequest,
    ScoringResult,
)
from evaluation.toolbench.inference.errors import EngineError, StopRequested
from evaluation.toolbench.inference.replicas.meter import Meter


class TimeLimitError(EngineError):
    """A generation, a step or a query that took longer than it may."""


class TimeIsUp(StopRequested):
    """The same, raised by a callback, of which only a StopRequested passes through a search."""


@dataclass(frozen=True)
class TimeLimits:
    """Seconds; infinity for no limit."""

    generation_s: float = float("inf")
    step_s: float = float("inf")
    query_s: float = float("inf")


class QueryClock:
    """The time of one query: a callback that notes where its steps begin."""

    def __init__(self, limits: TimeLimits) -> None:
        self._limits = limits
        self._query_start = self._step_start = time.monotonic()

    def on_chain_start(self, **_: Any) -> None:
        now = time.monotonic()
        if now - self._query_start >= self._limits.query_s:
            raise TimeIsUp(_message("the query", "--query_timeout", self._limits.query_s))
        self._step_start = now

    def tightest(self) -> tuple[float, str]:
        """(seconds that a generation which begins now may take, what to say when they are over)."""
        now, limits = time.monotonic(), self._limits
        return min(
            (limits.generation_s, _message("a generation", "--generation_timeout", limits.generation_s)),
            (self._step_start + limits.step_s - now, _message("a step", "--step_timeout", limits.step_s)),
            (self._query_start + limits.query_s - now, _message("the query", "--query_timeout", limits.query_s)),
        )


_clock_in_use: ContextVar[QueryClock | None] = ContextVar("clock_in_use", default=None)


@contextmanager
def query_clock(limits: TimeLimits) -> Iterator[QueryClock]:
    """The clock of the query that this thread works on, to be given to its search as a callback. TimeLimitError."""
    clock = QueryClock(limits)
    token = _clock_in_use.set(clock)
    try:
        yield clock
    except TimeIsUp as error:
        raise TimeLimitError(str(error)) from error
    finally:
        _clock_in_use.reset(token)


class WatchedEngine(Engine):
    """Passes everything on to `engine`, within the limits of the asking thread's query, and counts for `meter`.

    After `abandon` nothing is waited for any more: StopRequested.
    """

    def __init__(self, engine: Engine, meter: Meter) -> None:
        self.inner = engine
        self.vocab_size = engine.vocab_size
        self.max_length = engine.max_length
        self._meter = meter
        self._abandoned: Future[None] = Future()

    def submit(self, request: GenerationRequest) -> Future[GenerationResult]:
        return self.inner.submit(request)

    def generate(self, request: GenerationRequest) -> GenerationResult:
        clock = _clock_in_use.get()
        seconds, message = clock.tightest() if clock else (float("inf"), "")
        future = self.inner.submit(request)
        timeout = None if seconds == float("inf") else max(seconds, 0.0)
        either: tuple[Future[Any], ...] = (future, self._abandoned)
        wait(either, timeout, FIRST_COMPLETED)
        if not future.done():
            future.cancel()
            if self._abandoned.done():
                raise StopRequested
            raise TimeLimitError(message, seconds=seconds)
        result = future.result()
        self._meter.generation_ended(len(result.token_ids))
        return result

    def score(self, request: ScoringRequest) -> Future[ScoringResult]:
        return self.inner.score(request)

    def end_conversation(self, conversation_id: str) -> None:
        self.inner.end_conversation(conversation_id)

    def close(self) -> None:
        self.inner.close()

    def abandon(self) -> None:
        """Let every waiting thread go on without its generation. May be called twice."""
        if not self._abandoned.done():
            self._abandoned.set_result(None)


def _message(what: str, flag: str, seconds: float) -> str:
    return f"{what} took longer than {seconds:g} s, the limit of {flag}; it is tried again by the next run"


class StopBetweenSteps:
    """A callback of the search algorithms that ends a query before its next step."""

    def __init__(self, requested: threading.Event) -> None:
        self._requested = requested

    def on_chain_start(self, **_: Any) -> None:
        if self._requested.is_set():
            raise StopRequested
