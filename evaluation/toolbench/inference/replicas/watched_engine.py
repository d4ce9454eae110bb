"""Stands between the agents and a replica's engine: keeps time limits, tells the meter and the event log of it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from evaluation.toolbench.inference.errors import EngineError, EngineStoppedError, StopRequested
from evaluation.toolbench.inference.replicas.admission import Admission
from evaluation.toolbench.inference.replicas.gate import Gate
from evaluation.toolbench.inference.replicas.limits import QueryClock, TimeIsUp, TimeLimitError, TimeLimits
from evaluation.toolbench.inference.replicas.meter import Meter

if TYPE_CHECKING:  # they import torch, which a replica without an engine of ours does without
    from evaluation.toolbench.inference.engine.request import (
        Engine,
        GenerationRequest,
        GenerationResult,
        ScoringRequest,
        ScoringResult,
    )


class TokenCounter(Protocol):
    """Is told of every generation; `records.event_log.QueryRecorder` is one."""

    def count_tokens(self, *, generated: int, prompt: int, was_cut: bool | None) -> None: ...


@dataclass(frozen=True, eq=False)
class _Query:
    """Names whom the engine asks and tells about the generations of one query."""

    clock: QueryClock
    counter: TokenCounter | None
    at_end: list[Callable[[], None]] = field(default_factory=list)


_query_of_thread: ContextVar[_Query | None] = ContextVar("query_of_thread", default=None)


@contextmanager
def watched_query(limits: TimeLimits, counter: TokenCounter | None = None) -> Iterator[QueryClock]:
    """Hold what this thread generates to `limits`, and tell `counter` of it. TimeLimitError.

    Yields the query's clock, to be given to its search as a callback.
    """
    clock = QueryClock(limits)
    query = _Query(clock, counter)
    token = _query_of_thread.set(query)
    try:
        yield clock
    except TimeIsUp as error:
        raise TimeLimitError(str(error)) from error
    finally:
        _query_of_thread.reset(token)
        for end in query.at_end:
            end()


class WatchedEngine:
    """Passes everything on to `inner`; `generate` keeps to the limits of the asking thread's query.

    Tokens are counted for `meter` and for that query. `generate` has counted when it returns; with `submit` a
    waiter may see the result an instant earlier. After `abandon` nothing is waited for any more: StopRequested.
    """

    def __init__(self, inner: Engine, meter: Meter) -> None:
        self.inner = inner
        self.vocab_size = inner.vocab_size
        self.max_length = inner.max_length
        self._meter = meter
        self._abandoned: Future[None] = Future()

    def submit(self, request: GenerationRequest) -> Future[GenerationResult]:
        query = _query_of_thread.get()
        future = self.inner.submit(request)
        future.add_done_callback(lambda done: self._count_if_done(query, request, done))
        return future

    def generate(self, request: GenerationRequest) -> GenerationResult:
        query = _query_of_thread.get()
        if query is not None:
            self._pass_gate(query)
        seconds, message = query.clock.tightest() if query else (float("inf"), "")
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
        self._count(query, request, result)
        return result

    def score(self, request: ScoringRequest) -> Future[ScoringResult]:
        future = self.inner.score(request)
        future.add_done_callback(lambda _: self._meter.generation_ended(0))  # it is progress and makes no tokens
        return future

    def score_all(self, requests: Sequence[ScoringRequest]) -> Future[list[ScoringResult]]:
        future = self.inner.score_all(requests)
        future.add_done_callback(lambda _: self._meter.generation_ended(0))
        return future

    def end_conversation(self, conversation_id: str) -> None:
        self.inner.end_conversation(conversation_id)

    def close(self) -> None:
        self.inner.close()

    def abandon(self) -> None:
        """Let every waiting thread go on without its generation. May be called twice."""
        if not self._abandoned.done():
            self._abandoned.set_result(None)

    def _pass_gate(self, query: _Query) -> None:
        """Wait until the query may generate; its clock stands still meanwhile."""
        gate = self._meter.gate
        if gate is None:
            return
        if not query.at_end:
            query.at_end.append(functools.partial(gate.leave, query))
        query.clock.hold(gate.enter(query))
        if self._abandoned.done():
            raise StopRequested

    def _count_if_done(self, query: _Query | None, request: GenerationRequest, done: Future[GenerationResult]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._count(query, request, done.result())

    def _count(self, query: _Query | None, request: GenerationRequest, result: GenerationResult) -> None:
        was_cut = result.finish_reason == "length" if request.constraint is None else None
        self._meter.generation_ended(len(result.token_ids), was_cut)
        if query is not None and self._meter.gate is not None:
            self._meter.gate.grew(query, len(request.prompt_ids) + len(result.token_ids))
        if query is not None and query.counter is not None:
            query.counter.count_tokens(generated=len(result.token_ids), prompt=len(request.prompt_ids), was_cut=was_cut)


class Watch:
    """Knows a replica's engine: set up before the model loads, and asked while it runs.

    `at_compiling` is called when the engine begins to compile its layers.
    """

    def __init__(self, at_compiling: Callable[[], None] = lambda: None) -> None:
        self._at_compiling = at_compiling
        self.meter = Meter()
        self.engine: WatchedEngine | None = None  # None: a model that brings its own generation

    def begin_compiling(self) -> None:
        """Note that the engine that is being made compiles its layers now."""
        self.meter.is_compiling = True
        self._at_compiling()

    def wrap(self, engine: Engine) -> Engine:
        """Return what is to be put between the agents and `engine`."""
        from evaluation.toolbench.inference.engine.request import CountsPromptTokens, CountsSteps, CountsTokens

        self.meter.is_compiling = False
        self.engine = WatchedEngine(engine, self.meter)
        if isinstance(engine, CountsTokens):
            self.meter.engine_tokens = engine.num_tokens
        if isinstance(engine, CountsPromptTokens):
            self.meter.engine_prompt_tokens = engine.num_prompt_tokens
        if isinstance(engine, CountsSteps):
            self.meter.engine_steps = engine.num_steps
        return self.engine

    @property
    def sees_steps(self) -> bool:
        return self.meter.engine_steps is not None

    def is_broken(self, error: Exception) -> bool:
        """Say whether after this error the engine or its GPUs are of no more use."""
        if isinstance(error, EngineStoppedError):
            return True
        return isinstance(error, EngineError) and not isinstance(error, TimeLimitError) and _gpus_are_lost()

    def admit_by_use(self, most: int, max_tokens: int) -> int | None:
        """Let the number of conversations, at most `most`, follow the engine's KV cache; return the first number.

        None, and nothing changes, for an engine without one of its own. No conversation exceeds `max_tokens`.
        """
        from evaluation.toolbench.inference.engine.request import HasKvCache

        inner = self.engine.inner if self.engine else None
        if not isinstance(inner, HasKvCache):
            return None

        def use() -> tuple[int, int]:
            now = inner.kv_use()
            return now.used_tokens, now.repeated_preemptions

        admission = Admission(inner.kv_tokens(), most, min(max_tokens, inner.max_length))
        self.meter.gate = Gate(admission, use)
        return self.meter.gate.number

    def kv_tokens(self) -> int | None:
        """Return how many tokens the engine's KV cache holds; None for an engine without one of its own."""
        from evaluation.toolbench.inference.engine.request import HasKvCache

        inner = self.engine.inner if self.engine else None
        return inner.kv_tokens() if isinstance(inner, HasKvCache) else None

    def abandon(self) -> None:
        if self.engine is not None:
            self.engine.abandon()
        self.open_gate()

    def open_gate(self) -> None:
        """Hold no conversation back any more."""
        if self.meter.gate is not None:
            self.meter.gate.open()


def _gpus_are_lost() -> bool:
    """Ask whether CUDA answers every call in this process with an error, as it does after a fault of a kernel."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        for index in range(torch.cuda.device_count()):
            torch.cuda.synchronize(index)
    except RuntimeError:
        return True
    return False
