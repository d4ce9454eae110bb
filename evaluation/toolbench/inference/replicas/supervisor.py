"""Is the parent's side: it starts replicas, hands out items, and sees that none is lost with a replica.

One thread does everything, in turns of at most a fifth of a second: start what may start, hand out what
waits, listen, look for replicas that have died or hang, show how it is going.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from evaluation.toolbench.inference.errors import PlacementError, ToolGenError
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.replicas.handle import Handle
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec, RunLayout
from evaluation.toolbench.inference.replicas.ledger import Ledger, share_of
from evaluation.toolbench.inference.replicas.limits import Patience
from evaluation.toolbench.inference.replicas.messages import (
    Beat,
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
from evaluation.toolbench.inference.replicas.supervised_replica import SupervisedReplica
from evaluation.toolbench.inference.run_display.status import ReplicaStatus

logger = logging.getLogger(__name__)

MAX_TRIES = 3  # of an item that its replica dies with, or gives back
_TURN_S = 0.2
_LOADING_PATIENCE = 6  # loading may take this many times `Patience.replica_s`
LOST = "ReplicaLost"  # the type of a failure whose replica is gone


@dataclass(frozen=True)
class RunHooks:
    """Holds what the run around the supervisor does, all on the supervisor's thread."""

    start: Callable[[ReplicaSpec], Handle]
    done: Callable[[str, Any], None]  # an item is over: what its function returned, None for one that was found done
    failed: Callable[[str, Problem], None]
    is_done: Callable[[str], bool] = lambda _: False  # whether a lost item's whole result is on disk
    ready: Callable[[], None] = lambda: None  # the first replica is loaded, nothing is handed out yet
    show: Callable[[], None] = lambda: None


class Supervisor:
    """Runs the items `item_ids`, in their order, on the replicas of `layout`. `run` once."""

    def __init__(self, item_ids: Sequence[str], layout: RunLayout, hooks: RunHooks, patience: Patience) -> None:
        self._ledger = Ledger.of(item_ids, MAX_TRIES)
        self._layout = layout
        self._hooks = hooks
        self._patience = patience
        self._replicas = [SupervisedReplica(spec) for spec in layout.replicas]
        self._error: ToolGenError | None = None  # that ends the run
        self._load_error: ToolGenError | None = None
        self._is_ready = False
        self._stop_asked: float | None = None
        self._told: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Go on until every item is over, `stop` is set, or no replica is left.

        ToolGenError for what every item would meet (OutputError), and for replicas of which not one could
        load. Whatever happens, no replica is left running.
        """
        try:
            while not self._is_over():
                try:
                    self._start_replicas()
                    self._hand_out()
                    self._listen()
                    self._look_after()
                except ToolGenError as error:  # what is in flight still comes to the end of its step
                    self._error = self._error or error
                if stop.is_set() or self._error:
                    self._ask_to_stop()
                self._hooks.show()
        finally:
            self._end_replicas()
            self._hooks.show()
        if self._error:
            raise self._error
        if self._load_error and not self._is_ready:
            raise self._load_error

    def statuses(self) -> tuple[ReplicaStatus, ...]:
        return tuple(replica.status(len(self._ledger.held_by(replica.spec.number))) for replica in self._replicas)

    def loaded(self) -> dict[int, Loaded]:
        """Return what the replicas that have loaded said of themselves, by their number."""
        return {replica.spec.number: replica.loaded for replica in self._replicas if replica.loaded}

    def _is_over(self) -> bool:
        if self._stop_asked is not None:
            is_late = time.monotonic() - self._stop_asked > self._patience.stopping_s
            return is_late or not any(self._ledger.held_by(replica.spec.number) for replica in self._replicas)
        return not self._ledger.num_left or not any(replica.may_work for replica in self._replicas)

    def _start_replicas(self) -> None:
        num_loading = sum(replica.state == "loading" for replica in self._replicas)
        for replica in self._replicas:
            is_next = replica.state in ("waiting", "restarting")
            if is_next and num_loading < self._layout.num_loading and self._stop_asked is None:
                replica.state = "loading"
                replica.has_ended = False
                replica.started = replica.last_progress = time.monotonic()
                try:
                    replica.handle = self._hooks.start(replica.spec)
                except OSError as error:  # no process, no memory or no file handle to be had
                    self._miss_start(replica, error)
                    continue
                num_loading += 1

    def _hand_out(self) -> None:
        """Give items to the least busy first, so that replicas which are ready at the same time share what there is."""
        if self._stop_asked is not None:
            return
        working = [replica for replica in self._replicas if replica.can_work]
        num_replicas = sum(replica.may_work for replica in self._replicas)
        while self._ledger.waiting and working:
            replica = min(working, key=lambda each: len(self._ledger.held_by(each.spec.number)))
            number = replica.spec.number
            assert replica.loaded is not None
            at_once = replica.beat.num_conversations or replica.loaded.num_conversations
            share = share_of(self._ledger.num_left, num_replicas, at_once)
            if len(self._ledger.held_by(number)) >= share:
                working.remove(replica)
                continue
            if not self._ledger.held_by(number):
                replica.last_progress = time.monotonic()
            item_id = self._ledger.take(number)
            assert item_id is not None
            if not replica.send(RunItem(item_id)):
                working.remove(replica)

    def _listen(self) -> None:
        """Take in what replicas say, waiting for the first of it."""
        lines = {
            replica.handle.connection: replica
            for replica in self._replicas
            if replica.handle is not None and not replica.handle.connection.closed
        }
        if not lines:
            time.sleep(_TURN_S)
        for connection in wait(list(lines), _TURN_S):
            assert isinstance(connection, Connection)
            self._receive_all(lines[connection], connection)

    def _receive_all(self, replica: SupervisedReplica, connection: Connection) -> None:
        try:
            while not connection.closed and connection.poll():
                self._take_in(replica, connection.recv())
        except (EOFError, OSError):
            self._lose(replica, replica.reason_of_end())

    def _take_in(self, replica: SupervisedReplica, message: FromReplica) -> None:
        match message:
            case Beat():
                if message.progress != replica.beat.progress:
                    replica.last_progress = time.monotonic()
                replica.beat = message
            case Loaded():
                self._note_loaded(replica, message)
            case LoadFailed(problem):
                self._fail_to_load(replica, problem)
            case Done() | Failed():
                self._note_end(replica, message)
            case GivenBack(item_id, problem):
                self._take_back(replica, item_id, problem)
            case Dropped(item_id):
                self._ledger.end(replica.spec.number, item_id)
            case Broken(problem):
                self._lose(replica, f"{problem.type}: {problem.message}")
            case Log():
                self._tell(replica, message)
            case Ended():
                replica.has_ended = True

    def _note_loaded(self, replica: SupervisedReplica, message: Loaded) -> None:
        replica.loaded, replica.state = message, "running"
        if self._stop_asked is not None:
            replica.send(Stop())
        if not self._is_ready:
            self._is_ready = True
            self._hooks.ready()

    def _note_end(self, replica: SupervisedReplica, message: Done | Failed) -> None:
        replica.last_progress = time.monotonic()
        replica.restarts = 0
        is_new = self._ledger.end(replica.spec.number, message.item_id)
        if isinstance(message, Done):
            if is_new:
                self._hooks.done(message.item_id, message.result)
            return
        if is_new:
            self._hooks.failed(message.item_id, message.problem)
        if message.ends_run and self._error is None:
            self._error = message.problem.as_error()

    def _look_after(self) -> None:
        """Find replicas that have died without a word, and those that hang."""
        now = time.monotonic()
        for replica in self._replicas:
            if replica.handle is None or self._stop_asked is not None:
                continue
            silent_s = now - replica.last_progress
            if replica.handle.ended() is not None and not replica.handle.connection.poll():
                self._lose(replica, replica.reason_of_end())
            elif replica.state == "loading":
                if now - replica.started > _LOADING_PATIENCE * self._patience.replica_s:
                    self._lose(replica, f"it did not load within {now - replica.started:.0f} s")
            elif self._ledger.held_by(replica.spec.number) and silent_s > replica.may_be_silent_s(self._patience):
                self._lose(replica, f"it made no progress for {silent_s:.0f} s (--replica_timeout)")

    def _lose(self, replica: SupervisedReplica, reason: str) -> None:
        """Give up a replica that is of no more use: its items go back, and it is started again if it may be."""
        if replica.handle is None:
            return
        handle, replica.handle = replica.handle, None
        handle.end(by_force=True)
        replica.earlier, replica.beat = replica.earlier + replica.beat, Beat()
        if self._stop_asked is not None:
            replica.state = "ended"
            self._settle(replica)
            return
        again = replica.plan_restart(may_restart=handle.can_restart)
        held = self._ledger.held_by(replica.spec.number)
        logger.warning(
            "%s was lost with %d %s in flight: %s; %s",
            replica.spec.name,
            len(held),
            "query" if len(held) == 1 else "queries",
            reason,
            "it is started again" if again else "it is not started again",
        )
        for item_id in held:
            self._give_back(replica, item_id, Problem(LOST, f"{replica.spec.name} was lost while it ran: {reason}"))

    def _settle(self, replica: SupervisedReplica) -> None:
        """Count what a replica still held when the run was stopped: done, where it only could not say so, or left."""
        for item_id in self._ledger.held_by(replica.spec.number):
            self._ledger.end(replica.spec.number, item_id)
            if self._hooks.is_done(item_id):
                self._hooks.done(item_id, None)

    def _take_back(self, replica: SupervisedReplica, item_id: str, problem: Problem) -> None:
        """Let an item that met what is not its own be tried again, by this replica or another."""
        replica.last_progress = time.monotonic()
        if item_id not in self._ledger.held_by(replica.spec.number):
            return
        if self._stop_asked is None:
            self._give_back(replica, item_id, problem)
        else:
            self._ledger.end(replica.spec.number, item_id)

    def _give_back(self, replica: SupervisedReplica, item_id: str, problem: Problem) -> None:
        """Let an item that is not over wait again; after its last try it has failed with `problem`."""
        number = replica.spec.number
        if self._hooks.is_done(item_id):  # it died between the result and its message
            self._ledger.end(number, item_id)
            self._hooks.done(item_id, None)
        elif not self._ledger.give_back(number, item_id):
            tries = f"{self._ledger.num_tries(item_id)} tries of {MAX_TRIES}"
            self._hooks.failed(item_id, replace(problem, message=f"{problem.message}; {tries}"))

    def _miss_start(self, replica: SupervisedReplica, error: OSError) -> None:
        again = replica.plan_restart(may_restart=True)
        text = f"{replica.spec.name} could not be started: {error}"
        logger.warning("%s; %s", text, "it is tried again" if again else "it is not tried again")
        if not again and self._load_error is None:
            self._load_error = PlacementError(text)

    def _fail_to_load(self, replica: SupervisedReplica, problem: Problem) -> None:
        """Give the replica up: what is wrong with the checkpoint or the GPUs is so the next time, too."""
        if self._load_error is None:
            self._load_error = problem.as_error()
        if problem.message not in self._told:
            self._told.add(problem.message)
            logger.warning("%s could not load: %s", replica.spec.name, problem.message)
            logger.debug("%s", problem.traceback)
        if replica.handle is not None:
            replica.handle.end(by_force=True)
        replica.handle, replica.state = None, "failed"

    def _ask_to_stop(self) -> None:
        if self._stop_asked is None:
            self._stop_asked = time.monotonic()
            for replica in self._replicas:
                if replica.state == "running":
                    replica.send(Stop())

    def _end_replicas(self) -> None:
        """End them in good order where nothing is in flight, by force otherwise."""
        idle = [
            replica
            for replica in self._replicas
            if replica.state == "running" and not self._ledger.held_by(replica.spec.number)
        ]
        for replica in idle:
            if self._stop_asked is None:
                replica.send(Stop())
        deadline = time.monotonic() + self._patience.stopping_s
        while any(replica.handle and not replica.has_ended for replica in idle) and time.monotonic() < deadline:
            self._listen_to_the_end(idle)
        for replica in self._replicas:
            if replica.handle is not None:
                replica.handle.end(by_force=not replica.has_ended)
                replica.handle = None
                replica.state = "ended"
                if self._error is None:
                    self._settle(replica)

    def _listen_to_the_end(self, replicas: Sequence[SupervisedReplica]) -> None:
        for replica in replicas:
            if replica.handle is None or replica.has_ended:
                continue
            try:
                if replica.handle.connection.poll(_TURN_S):
                    self._take_in(replica, replica.handle.connection.recv())
            except (EOFError, OSError):
                replica.has_ended = True

    def _tell(self, replica: SupervisedReplica, message: Log) -> None:
        """Log a replica's line; what several say alike is said once."""
        if message.text not in self._told:
            self._told.add(message.text)
            prefix = "" if self._layout.is_in_parent else f"{replica.spec.name}: "
            logger.log(message.level, "%s%s", prefix, message.text)
