"""Serves requests by continuous batching over a transformers model, with a paged KV cache.

One thread owns the model, the pages and the schedule; callers talk to it through a queue and futures.
On a GPU it launches a step before it reads the tokens of the one before, so that the device never
waits for the host; a generation that turns out to have ended one step ago costs one row of one step.
Where the layers lie on several devices, the running sequences are divided over as many batches, whose
steps follow each other through the devices, so that all of them work at the same time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from evaluation.toolbench.inference.engine import MAX_RUNNING
from evaluation.toolbench.inference.engine.checks import check_request, check_scoring, context_of, vocabulary_of
from evaluation.toolbench.inference.engine.kv_format import check_kv_cache
from evaluation.toolbench.inference.engine.paged.attach import attach, detach
from evaluation.toolbench.inference.engine.paged.execution.runner import LaunchedStep, ModelRunner
from evaluation.toolbench.inference.engine.paged.kv_cache import PAGE_SIZE, KvCache, count_pages
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.engine.paged.model_setup import bytes_of_a_step, prepared_stages
from evaluation.toolbench.inference.engine.paged.pages import PagePool, extend_names
from evaluation.toolbench.inference.engine.paged.plan import Plan
from evaluation.toolbench.inference.engine.paged.prefix import common_length
from evaluation.toolbench.inference.engine.paged.scheduler import Counts, Scheduler
from evaluation.toolbench.inference.engine.paged.sequence import Sequence
from evaluation.toolbench.inference.engine.request import (
    Engine,
    GenerationRequest,
    GenerationResult,
    KvUse,
    ScoringRequest,
    ScoringResult,
)
from evaluation.toolbench.inference.errors import EngineError, EngineStoppedError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PageUse:
    """Counts pages at one moment: in all, free ones, and conversations that keep some while they wait."""

    num_pages: int
    num_free: int
    num_idle: int


class PagedEngine(Engine):
    """Serves many requests at once; the oldest first where memory or the step's size sets a limit.

    num_pages          pages of the KV cache; None: what fits beside the weights
    max_kv_bytes       limits those to this many bytes on each device, for a GPU that is not ours alone
    max_gpu_bytes      limits weights and pages together, by CUDA index: what --max_gpu_memory allows
    page_size          tokens a page; a power of two on a GPU
    kv_cache           "fp8" stores keys and values in 8 bits, in half the room: see `attention.float8`. Answers may
                       differ. "auto": in the model's dtype
    max_running        sequences in a step at most
    max_prefill_tokens prompt tokens in a step at most: longer prompts are read in pieces. None: follows the load
    step_tokens        tokens in a step at most, those that decode included: prompts fill each step to that size
    use_graphs         CUDA graphs, one for each GPU's part of the layers; not where weights are offloaded
    capture_at_start   capture them all before the first step (seconds), not each at its first use
    compile_layers     torch.compile of the decoder's layers (half a minute for a large model): see `compilation`.
                       None: of large models on GPUs
    before_compiling   called once when that begins
    join_linears       layers that are given the same tensor run as one product: see `joined_linear`.
                       None: as for compile_layers
    few_rows           kernels of our own multiply in steps of few rows, and by int8 in all: see `products`.
                       None: as for compile_layers
    overlap            launch a step before reading the last one's tokens; None: on a GPU

    While the engine lives it owns the model's attention; `close` gives that back. A future can be
    cancelled until its result is there, also while its generation runs: a caller's time limit is
    `result(timeout)` and `cancel()`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        num_pages: int | None = None,
        max_kv_bytes: int | None = None,
        max_gpu_bytes: Mapping[int, int] | None = None,
        page_size: int = PAGE_SIZE,
        kv_cache: str = "auto",
        max_running: int = MAX_RUNNING,
        max_prefill_tokens: int | None = None,
        step_tokens: int | None = None,
        use_graphs: bool = True,
        capture_at_start: bool = False,
        compile_layers: bool | None = None,
        before_compiling: Callable[[], None] | None = None,
        join_linears: bool | None = None,
        few_rows: bool | None = None,
        overlap: bool | None = None,
    ) -> None:
        check_kv_cache(kv_cache)
        self.vocab_size = vocabulary_of(model)
        context = context_of(model)
        pages_per_sequence = -(-context // page_size)
        attention_before, layers = attach(model)
        layers = [dataclasses.replace(layer, is_float8=kv_cache == "fp8") for layer in layers]
        try:
            stages = prepared_stages(model, compile_layers, before_compiling, join_linears, few_rows)
            limits = Limits.of(
                len(stages),
                max_running=max_running,
                max_prefill_tokens=max_prefill_tokens,
                step_tokens=step_tokens,
            )
            if num_pages is None:
                num_pages = count_pages(
                    layers,
                    page_size,
                    working_bytes=bytes_of_a_step(model, self.vocab_size, stages, limits),
                    max_pages=max_running * pages_per_sequence,
                    max_bytes=max_kv_bytes,
                    max_gpu_bytes=max_gpu_bytes or {},
                )
            cache = KvCache(layers, num_pages, page_size)
        except BaseException:
            detach(model, attention_before)
            raise
        self.max_length = min(context, num_pages * page_size)
        self._scheduler = Scheduler(PagePool(num_pages, page_size), limits, num_batches=len(stages))
        self._runner: ModelRunner | None = ModelRunner(
            model,
            stages,
            cache,
            vocab_size=self.vocab_size,
            num_batches=self._scheduler.num_batches,
            slots_per_batch=self._scheduler.slots_per_batch,
            max_prefill_rows=limits.max_prefill_rows,
            table_width=min(pages_per_sequence, num_pages),
            use_graphs=use_graphs,
        )
        self._model: PreTrainedModel | None = model
        self._attention_before = attention_before
        self._gpus = [stage.device for stage in stages if stage.device.type == "cuda"]
        self._overlap = bool(self._gpus) if overlap is None else overlap
        self._capture_at_start = capture_at_start
        self._numbers = itertools.count()
        self._tickets: dict[Sequence, _Ticket] = {}  # of those that are not over; of the engine's thread alone
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._lock = threading.Lock()  # orders submissions before or after close()
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="paged-engine", daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest) -> Future[GenerationResult]:
        try:
            max_new_tokens = check_request(request, vocab_size=self.vocab_size, max_length=self.max_length)
        except EngineError as error:
            return _failed(error)
        sequence = Sequence(0, request, max_new_tokens)
        extend_names(sequence.names, request.prompt_ids, self._scheduler.pool.page_size)
        return self._queue_up(_Ticket([sequence]))

    def score(self, request: ScoringRequest) -> Future[ScoringResult]:
        return self._queue_up_scoring([request], are_many=False)

    def score_all(self, requests: Items[ScoringRequest]) -> Future[list[ScoringResult]]:
        return self._queue_up_scoring(requests, are_many=True)

    def _queue_up_scoring(self, requests: Items[ScoringRequest], *, are_many: bool) -> Future[Any]:
        try:
            sequences = self._scoring_sequences(requests)
        except EngineError as error:
            return _failed(error)
        return self._queue_up(_Ticket(sequences, are_many))

    def _scoring_sequences(self, requests: Items[ScoringRequest]) -> list[Sequence]:
        """Make the sequences. What a prompt shares with the first one is looked at there alone. EngineError."""
        page_size = self._scheduler.pool.page_size
        sequences: list[Sequence] = []
        for request in requests:
            prompt_ids, num_shared = request.prompt_ids, 0
            names: list[bytes] = []
            if sequences:
                first = sequences[0]
                num_shared = common_length(first.token_ids, prompt_ids, len(prompt_ids) - 1)
                names = first.names[: num_shared // page_size]
            generation = check_scoring(
                request, vocab_size=self.vocab_size, max_length=self.max_length, num_checked=num_shared
            )
            sequence = Sequence(0, generation, generation.max_new_tokens, request)
            sequence.names = names
            extend_names(names, prompt_ids, page_size)
            sequences.append(sequence)
        return sequences

    def _queue_up(self, ticket: _Ticket) -> Future[Any]:
        """Take a request in. What takes time has been done by now, on the caller's thread, not between two steps."""
        with self._lock:
            if self._is_closed:
                raise EngineStoppedError("the engine is closed: no further request can be submitted")
            for sequence in ticket.sequences:
                sequence.number = next(self._numbers)
            self._inbox.put(ticket)
        ticket.future.add_done_callback(
            lambda future: self._inbox.put(_Cancelled(ticket)) if future.cancelled() else None
        )
        return ticket.future

    def generate(self, request: GenerationRequest) -> GenerationResult:
        return self.submit(request).result()

    def end_conversation(self, conversation_id: str) -> None:
        with self._lock:
            if not self._is_closed:
                self._inbox.put(_ConversationEnded(conversation_id))

    def close(self) -> None:
        """Cancel what waits, finish what runs, release the model. Later submits raise EngineError."""
        with self._lock:
            self._is_closed = True
            self._inbox.put(_Closed())
        self._thread.join()
        self._runner = None
        if self._model is not None:
            detach(self._model, self._attention_before)
            self._model = None

    def num_steps(self) -> int:
        """Return the steps launched so far."""
        return self._scheduler.counts.steps

    def num_tokens(self) -> int:
        """Return the tokens generated so far, those of generations that still run included."""
        return self._scheduler.counts.generated_tokens

    def num_prompt_tokens(self) -> int:
        """Return the prompt tokens read so far, without those that were in the pages already."""
        return self._scheduler.counts.prefill_tokens

    def kv_tokens(self) -> int:
        """Return how many tokens the page pool holds."""
        return self._scheduler.pool.num_pages * self._scheduler.pool.page_size

    def kv_use(self) -> KvUse:
        """Return what the page pool is used for at this moment, as nearly as another thread can tell."""
        pool, counts = self._scheduler.pool, self._scheduler.counts
        return KvUse((pool.num_pages - pool.num_free) * pool.page_size, counts.repeated_preemptions)

    def counts(self) -> Counts:
        """Return what has been done so far, at the time of the call."""
        return dataclasses.replace(self._scheduler.counts)

    def page_use(self) -> PageUse:
        """Return what the pages are used for; exact when nothing runs."""
        pool = self._scheduler.pool
        return PageUse(pool.num_pages, pool.num_free, len(self._scheduler.store))

    def _serve(self) -> None:
        """Run as the engine's thread, until close() or an error that no single request caused."""
        try:
            with self._streams():
                if self._capture_at_start and self._runner is not None:
                    self._runner.capture(self._scheduler.limits)
                self._loop()
        except BaseException as error:
            logger.exception("the paged engine has stopped")
            self._abandon(error)

    def _loop(self) -> None:
        in_flight: deque[LaunchedStep] = deque()
        batches = deque(range(self._scheduler.num_batches))  # whose turn it is comes first
        while True:
            is_closing = self._is_closed  # read first: what was submitted before close() is then in the inbox
            self._take_messages(wait=not (is_closing or in_flight or self._scheduler.has_work))
            if is_closing:
                self._cancel_waiting()
                if not in_flight and not self._scheduler.has_work:
                    return
            launched = self._launch_next(batches, in_flight)
            if launched is not None:
                in_flight.append(launched)
                while batches[-1] != launched.plan.batch:
                    batches.rotate(-1)
            # With overlap every batch has a step on its way, and one of them the step after that too.
            if in_flight and (launched is None or not self._overlap or len(in_flight) > len(batches)):
                self._finish_step(in_flight.popleft())

    def _launch_next(self, batches: Iterable[int], in_flight: Items[LaunchedStep]) -> LaunchedStep | None:
        """Launch a step of the first of `batches` that has something to do; None when none has.

        No batch gets further ahead of the tokens that have been taken than its next step.
        """
        busy = [step.plan.batch for step in in_flight]
        for batch in batches:
            plan = self._scheduler.plan(batch) if busy.count(batch) < 2 else None
            if plan is not None:
                return self._launch(plan)
        return None

    def _take_messages(self, *, wait: bool) -> None:
        """Take in everything that callers have said so far, after waiting for something to be said if told to."""
        while wait or not self._inbox.empty():
            message = self._inbox.get()
            wait = False
            if isinstance(message, _Ticket):
                for sequence in message.sequences:
                    self._tickets[sequence] = message
                    self._scheduler.add(sequence)
            elif isinstance(message, _Cancelled):
                self._drop_cancelled(message.ticket)
            elif isinstance(message, _ConversationEnded):
                self._scheduler.end_conversation(message.conversation_id)

    def _launch(self, plan: Plan) -> LaunchedStep | None:
        assert self._runner is not None  # close() waits for this thread before it lets go of it
        try:
            launched = self._runner.launch(plan)
        except torch.OutOfMemoryError as error:
            self._runner.release_memory()
            if self._scheduler.shrink(plan):
                limits = self._scheduler.limits
                logger.warning(
                    "out of memory in a step of %d sequences: going on with at most %d sequences and %d prompt tokens",
                    len(plan.rows),
                    limits.max_running,
                    limits.max_prefill_tokens,
                )
            else:
                self._fail(plan.rows[-1].sequence, error)
            return None
        except Exception as error:
            if not self._scheduler.run_alone(plan):
                self._fail(plan.rows[0].sequence, error)
            return None
        self._scheduler.note_launch(plan)
        return launched

    def _finish_step(self, launched: LaunchedStep) -> None:
        for sequence in self._scheduler.take_tokens(launched.plan, launched.tokens()):
            self._tickets.pop(sequence).note_end()

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        ticket = self._tickets[sequence]
        self._drop(ticket)
        if ticket.future.set_running_or_notify_cancel():
            wrapped = EngineError(
                f"a generation over {sequence.num_prompt} prompt tokens failed in the model: "
                f"{type(error).__name__}: {error}",
                prompt_tokens=sequence.num_prompt,
            )
            wrapped.__cause__ = error
            ticket.future.set_exception(wrapped)

    def _drop_cancelled(self, ticket: _Ticket) -> None:
        if self._drop(ticket):  # else it was over already
            ticket.future.set_running_or_notify_cancel()

    def _drop(self, ticket: _Ticket) -> bool:
        """Forget what is left of `ticket`; False where nothing is."""
        left = [sequence for sequence in ticket.sequences if self._tickets.pop(sequence, None) is not None]
        for sequence in left:
            self._scheduler.drop(sequence)
        return bool(left)

    def _cancel_waiting(self) -> None:
        """Cancel what never ran. A preempted sequence has run, so it stays."""
        for ticket in dict.fromkeys(self._tickets[sequence] for sequence in self._scheduler.waiting):
            if not any(sequence.has_begun for sequence in ticket.sequences) and ticket.future.cancel():
                self._drop_cancelled(ticket)

    def _abandon(self, error: BaseException) -> None:
        """Serve nothing any more: every future says so, and so does every later submit."""
        with self._lock:
            self._is_closed = True
        tickets = dict.fromkeys(self._tickets.values())
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, _Ticket):
                tickets[message] = None
        for ticket in tickets:
            if ticket.future.set_running_or_notify_cancel():
                stopped = EngineStoppedError(f"the paged engine has stopped: {type(error).__name__}: {error}")
                stopped.__cause__ = error
                ticket.future.set_exception(stopped)
        self._tickets.clear()

    @contextlib.contextmanager
    def _streams(self) -> Iterator[None]:
        """Yield a CUDA stream of the engine's own on each GPU, after what its constructor queued on the default
        ones.
        """
        with contextlib.ExitStack() as stack:
            for device in reversed(self._gpus):  # the first stage's stays the current device
                torch.cuda.synchronize(device)
                stack.enter_context(torch.cuda.stream(torch.cuda.Stream(device)))
            yield


@dataclass(eq=False, slots=True)
class _Ticket:
    """Holds what a caller has asked for at once: `future` has the result of one sequence, or the results of all."""

    sequences: list[Sequence]
    are_many: bool = False
    future: Future[Any] = field(default_factory=Future)
    _num_ended: int = 0

    def note_end(self) -> None:
        """Note that one of the sequences has finished."""
        self._num_ended += 1
        if self._num_ended == len(self.sequences) and self.future.set_running_or_notify_cancel():
            results = [sequence.result() for sequence in self.sequences]
            self.future.set_result(results if self.are_many else results[0])


@dataclass(frozen=True, slots=True)
class _Cancelled:
    """Says that the caller does not wait for it any more; it may be over."""

    ticket: _Ticket


@dataclass(frozen=True, slots=True)
class _ConversationEnded:
    conversation_id: str


class _Closed:
    """Wakes the engine's thread."""


_Message = _Ticket | _Cancelled | _ConversationEnded | _Closed  # to the engine's thread


def _failed(error: EngineError) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
