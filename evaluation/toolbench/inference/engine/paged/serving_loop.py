"""Moves the paged engine on, on a thread of its own that owns the model, the pages and the schedule.

Callers talk to it through a queue and futures. On a GPU it launches a step before it reads the tokens of the one
before, so that the device never waits for the host; a generation that turns out to have ended one step ago costs one
row of one step. Where the layers lie on several devices, the running sequences are divided over as many batches, whose
steps follow each other through the devices, so that all of them work at the same time.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch

from evaluation.toolbench.inference.engine.paged.execution.runner import LaunchedStep, ModelRunner
from evaluation.toolbench.inference.engine.paged.plan import Plan
from evaluation.toolbench.inference.engine.paged.scheduler import Scheduler
from evaluation.toolbench.inference.engine.paged.sequence import Sequence
from evaluation.toolbench.inference.errors import EngineError, EngineStoppedError

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Ticket:
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

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class _ConversationEnded:
    conversation_id: str


class _Closed:
    """Wakes the engine's thread."""


_Message = Ticket | _Cancelled | _ConversationEnded | _Closed  # to the engine's thread


class ServingLoop:
    """Serves tickets until it is closed. `overlap` launches a step before the tokens of the last one are read, and
    `capture_at_start` makes all CUDA graphs before the first step. `gpus` are those of the stages, in their order.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: ModelRunner,
        gpus: Items[torch.device],
        *,
        overlap: bool,
        capture_at_start: bool,
    ) -> None:
        self._scheduler = scheduler
        self._runner: ModelRunner | None = runner
        self._gpus = gpus
        self._overlap = overlap
        self._capture_at_start = capture_at_start
        self._numbers = itertools.count()
        self._tickets: dict[Sequence, Ticket] = {}  # of those that are not over; of the loop's thread alone
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._lock = threading.RLock()  # orders submissions before or after stop(), which garbage collection may call
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="paged-engine", daemon=True)
        self._thread.start()

    def queue_up(self, ticket: Ticket) -> Future[Any]:
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

    def end_conversation(self, conversation_id: str) -> None:
        """Give up what is kept of a conversation."""
        with self._lock:
            if not self._is_closed:
                self._inbox.put(_ConversationEnded(conversation_id))

    def close(self) -> None:
        """Cancel what waits, finish what runs, and let go of the model."""
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Begin to close, without waiting for it."""
        with self._lock:
            self._is_closed = True
            self._inbox.put(_Closed())

    def _serve(self) -> None:
        """Run as the engine's thread, until close() or an error that no single request caused."""
        try:
            with self._streams():
                if self._capture_at_start and self._runner is not None:
                    self._runner.capture(self._scheduler.limits)
                self._run()
        except BaseException as error:
            logger.exception("the paged engine has stopped")
            self._abandon(error)
        finally:
            self._runner = None  # futures that somebody keeps know this loop

    def _run(self) -> None:
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
            if isinstance(message, Ticket):
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

    def _drop_cancelled(self, ticket: Ticket) -> None:
        if self._drop(ticket):  # else it was over already
            ticket.future.set_running_or_notify_cancel()

    def _drop(self, ticket: Ticket) -> bool:
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
            if isinstance(message, Ticket):
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
