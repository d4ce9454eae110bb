"""Is the replica's side: it loads, takes items from its parent, has them run, and reports."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from evaluation.toolbench.inference.errors import ApiError, OutputError, ServerError, StopRequested
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec
from evaluation.toolbench.inference.replicas.messages import (
    Broken,
    Done,
    Dropped,
    Ended,
    Failed,
    FromReplica,
    GivenBack,
    Loaded,
    LoadFailed,
    Log,
    RunItem,
    Stop,
)
from evaluation.toolbench.inference.replicas.meter import Meter
from evaluation.toolbench.inference.replicas.watched_engine import Watch

_BEAT_S = 0.25  # as often as the number of conversations follows the KV cache


@dataclass(frozen=True)
class Replica:
    """Shows a loader its copy of the model: where it goes, what watches it, and whether it is to stop."""

    spec: ReplicaSpec
    watch: Watch = field(default_factory=Watch)  # its `wrap` goes around the engine; its `meter` counts
    stop: threading.Event = field(default_factory=threading.Event)  # set: raise StopRequested before the next step
    began: float = field(default_factory=time.monotonic)  # to load

    def keep_to_share(self) -> None:
        """Limit torch to this replica's share of a GPU that others use too, so that it alone runs out of memory.

        For the time before the model loads, in a process that sees this replica's GPUs only.
        """
        for index, shard in enumerate(self.spec.placement.shards if self.spec.placement else ()):
            if shard.budget.share > 1:
                import torch

                fraction = shard.budget.num_bytes / shard.budget.gpu.total_bytes
                torch.cuda.set_per_process_memory_fraction(fraction, index)

    def admit_by_use(self, max_tokens: int) -> int | None:
        """Let the number of conversations of up to `max_tokens` follow the engine's KV cache; return the first number.

        None for an engine without a KV cache of its own.
        """
        return self.watch.admit_by_use(self.spec.most_conversations, max_tokens)


@dataclass(frozen=True)
class Work:
    """Says what a replica can do once it is loaded.

    `start_item` begins an item without waiting for it. What its future comes to goes to the parent, so it has to be
    plain; of an item that leaves a file it is None.
    """

    start_item: Callable[[str], Future[Any]]
    num_conversations: int  # items at once
    device_map: dict[str, Any] = field(default_factory=dict)  # module -> device, for the run's record

    @classmethod
    def on_threads(cls, run_item: Callable[[str], Any], num_conversations: int, device_map: Any = None) -> Work:
        """Return work whose items run each on a thread of its own: `run_item` does one, or raises."""

        def run(item_id: str, future: Future[Any]) -> None:
            try:
                future.set_result(run_item(item_id))
            except (Exception, StopRequested) as error:
                future.set_exception(error)

        def start_item(item_id: str) -> Future[Any]:
            future: Future[Any] = Future()
            threading.Thread(target=run, args=(item_id, future), name=f"query {item_id}", daemon=True).start()
            return future

        return cls(start_item, num_conversations, device_map or {})


# A loader is entered to load the model and left to give back what the work held open.
Loader = Callable[[Replica, Any], AbstractContextManager[Work]]


def serve(line: ParentLine, replica: Replica, load: Callable[[], AbstractContextManager[Work]]) -> bool:
    """Load, then run what the parent asks for, and tell it everything. False if it hung up, or nothing could load."""
    heart = Heart(line, replica.watch.meter)
    try:
        with load() as work:
            line.send(Loaded(work.num_conversations, replica.watch.sees_steps, work.device_map))
            is_over = ReplicaServer(line, replica, work.start_item).run()
    except Exception as error:
        line.send(LoadFailed(Problem.of(error)))
        return False
    finally:
        heart.stop()
    if is_over:
        line.send(Ended())
    return is_over


class ParentLine:
    """Sends to the parent, from any thread. What is sent to a parent that is gone is lost."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: FromReplica) -> None:
        with self._lock, contextlib.suppress(OSError):  # whoever receives notices the same, and ends this replica
            self._connection.send(message)

    def receive(self) -> RunItem | Stop | None:
        """Wait for the next message; None once the parent has hung up."""
        try:
            message: RunItem | Stop = self._connection.recv()
        except (EOFError, OSError):
            return None
        return message


class Heart:
    """Sends four beats a second from when it is made until `stop`."""

    def __init__(self, line: ParentLine, meter: Meter) -> None:
        self._line, self._meter = line, meter
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send the last beat, with the final counts."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._line.send(self._meter.beat())
            if self._stopped.wait(_BEAT_S):
                self._line.send(self._meter.beat())
                return


class ReplicaServer:
    """Has done what the parent asks for, and tells it how each item ended."""

    def __init__(self, line: ParentLine, replica: Replica, start_item: Callable[[str], Future[Any]]) -> None:
        self._line = line
        self._replica = replica
        self._start_item = start_item
        self._lock = threading.Lock()
        self._in_flight = 0
        self._all_over = threading.Event()

    def run(self) -> bool:
        """Go on until the parent asks to stop and all items have ended; False if it hung up before."""
        while (message := self._line.receive()) is not None:
            if isinstance(message, Stop):
                self._replica.stop.set()
                self._replica.watch.open_gate()
                with self._lock:
                    if not self._in_flight:
                        self._all_over.set()
                self._all_over.wait()
                return True
            with self._lock:
                self._in_flight += 1
            self._replica.watch.meter.item_began()
            self._start(message.item_id)
        return False

    def _start(self, item_id: str) -> None:
        future: Future[Any] = Future()
        if self._replica.stop.is_set():
            future.set_exception(StopRequested())
        else:
            try:
                future = self._start_item(item_id)
            except Exception as error:
                future.set_exception(error)
        future.add_done_callback(lambda future: self._report(item_id, future))

    def _report(self, item_id: str, future: Future[Any]) -> None:
        try:
            self._line.send(self._outcome(item_id, future))
        except Exception as error:  # a result that cannot be sent; a connection that is gone raises nothing
            self._line.send(Failed(item_id, Problem.of(error)))
        finally:
            self._replica.watch.meter.item_ended()
            with self._lock:
                self._in_flight -= 1
                if not self._in_flight and self._replica.stop.is_set():
                    self._all_over.set()

    def _outcome(self, item_id: str, future: Future[Any]) -> FromReplica:
        try:
            return Done(item_id, future.result())
        except StopRequested:
            return Dropped(item_id)
        except (OutputError, ServerError) as error:
            return Failed(item_id, Problem.of(error), ends_run=True)
        except ApiError as error:
            return GivenBack(item_id, Problem.of(error))
        except Exception as error:  # this item's own; the others go on
            if self._replica.watch.is_broken(error):
                return Broken(Problem.of(error))
            return Failed(item_id, Problem.of(error))


class LogToParent(logging.Handler):
    """Sends log records to the parent, which knows what its terminal shows."""

    def __init__(self, line: ParentLine) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line.send(Log(record.levelno, self.format(record)))
