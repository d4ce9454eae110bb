"""A replica's side of the conversation with its parent: takes queries, runs each on a thread, reports."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from evaluation.toolbench.inference.errors import OutputError, ServerError, StopRequested
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.replicas.messages import (
    Answered,
    Broken,
    Dropped,
    Failed,
    FromReplica,
    Log,
    RunQuery,
    Stop,
)
from evaluation.toolbench.inference.replicas.meter import Meter

_BEAT_S = 1.0


class ParentLine:
    """The way to the parent, for any thread. What is sent to a parent that is gone is lost."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: FromReplica) -> None:
        with self._lock, contextlib.suppress(OSError):  # whoever receives notices the same, and ends this replica
            self._connection.send(message)

    def receive(self) -> RunQuery | Stop | None:
        """The next message; None once the parent has hung up."""
        try:
            message: RunQuery | Stop = self._connection.recv()
        except (EOFError, OSError):
            return None
        return message


class Heart:
    """Sends a beat every second from when it is made until `stop`."""

    def __init__(self, line: ParentLine, meter: Meter) -> None:
        self._line, self._meter = line, meter
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The last beat, with the final counts, is sent when this returns."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._line.send(self._meter.beat())
            if self._stopped.wait(_BEAT_S):
                self._line.send(self._meter.beat())
                return


class ReplicaServer:
    """Runs what the parent asks for. `run_query` runs one query to its answer file, or raises.

    `stop` is set when the run is to end between two steps. `is_broken` says of a query's error whether
    it is the replica's end.
    """

    def __init__(
        self,
        line: ParentLine,
        run_query: Callable[[str], None],
        stop: threading.Event,
        is_broken: Callable[[Exception], bool],
    ) -> None:
        self._line = line
        self._run_query = run_query
        self._stop = stop
        self._is_broken = is_broken
        self._lock = threading.Lock()
        self._in_flight = 0
        self._all_over = threading.Event()

    def serve(self) -> bool:
        """Until the parent asks to stop and all conversations have ended; False if it hung up before."""
        while (message := self._line.receive()) is not None:
            if isinstance(message, Stop):
                self._stop.set()
                with self._lock:
                    if not self._in_flight:
                        self._all_over.set()
                self._all_over.wait()
                return True
            with self._lock:
                self._in_flight += 1
            name = f"query {message.query_id}"
            threading.Thread(target=self._run, args=(message.query_id,), name=name, daemon=True).start()
        return False

    def _run(self, query_id: str) -> None:
        try:
            self._line.send(self._outcome(query_id))
        finally:
            with self._lock:
                self._in_flight -= 1
                if not self._in_flight and self._stop.is_set():
                    self._all_over.set()

    def _outcome(self, query_id: str) -> FromReplica:
        if self._stop.is_set():
            return Dropped(query_id)
        try:
            self._run_query(query_id)
        except StopRequested:
            return Dropped(query_id)
        except (OutputError, ServerError) as error:
            return Failed(query_id, Problem.of(error), ends_run=True)
        except Exception as error:  # this query's own; the others go on
            if self._is_broken(error):
                return Broken(Problem.of(error))
            return Failed(query_id, Problem.of(error))
        return Answered(query_id)


class LogToParent(logging.Handler):
    """Sends log records to the parent, which knows what its terminal shows."""

    def __init__(self, line: ParentLine) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line.send(Log(record.levelno, self.format(record)))
