"""Follows one replica over all its starts, as the supervisor sees it: its state, its handle and what it has said."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from evaluation.toolbench.inference.replicas.handle import Handle
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec
from evaluation.toolbench.inference.replicas.limits import Patience
from evaluation.toolbench.inference.replicas.messages import Beat, Loaded, RunItem, Stop
from evaluation.toolbench.inference.run_display.status import ReplicaState, ReplicaStatus

MAX_RESTARTS = 2  # consecutive ones of a replica, without an item that came to its end


@dataclass
class SupervisedReplica:
    """Knows how a replica is doing. Times are those of `time.monotonic`."""

    spec: ReplicaSpec
    state: ReplicaState | Literal["waiting"] = "waiting"  # to be started for the first time
    handle: Handle | None = None
    loaded: Loaded | None = None
    beat: Beat = field(default_factory=Beat)
    earlier: Beat = field(default_factory=Beat)  # of sessions that have ended
    restarts: int = 0
    started: float = 0.0
    last_progress: float = 0.0
    has_ended: bool = False  # in good order

    @property
    def can_work(self) -> bool:
        return self.state == "running"

    @property
    def may_work(self) -> bool:
        """Return whether it works now or may work later."""
        return self.state in ("waiting", "loading", "running", "restarting")

    def plan_restart(self, *, may_restart: bool) -> bool:
        """Note that this start came to nothing, and whether there is to be another."""
        again = may_restart and self.restarts < MAX_RESTARTS
        self.restarts += 1
        self.state = "restarting" if again else "failed"
        return again

    def send(self, message: RunItem | Stop) -> bool:
        """Send the message; False if the replica is gone, which its connection will tell."""
        if self.handle is None:
            return False
        try:
            self.handle.connection.send(message)
        except OSError:
            return False
        return True

    def may_be_silent_s(self, patience: Patience) -> float:
        """Return the seconds without progress after which a loaded replica that holds items hangs."""
        assert self.loaded is not None
        extra = 0.0 if self.loaded.sees_steps else patience.generation_s
        extra += patience.call_s if self.beat.calls_in_flight else 0.0
        return patience.replica_s + extra

    def reason_of_end(self) -> str:
        """Say in words how it ended, waiting a second for that: its line breaks an instant before it has ended."""
        deadline = time.monotonic() + 1.0
        while self.handle is not None and time.monotonic() < deadline:
            reason = self.handle.ended()
            if reason is not None:
                return reason
            time.sleep(0.01)
        return "its connection broke"

    def status(self, in_flight: int) -> ReplicaStatus:
        """Return what a display shows of it, over all its starts."""
        counts = self.earlier + self.beat
        return ReplicaStatus(
            name=self.spec.name,
            gpus=self.spec.gpus,
            state=self._shown_state(),
            in_flight=in_flight,
            num_tokens=counts.num_tokens,
            num_prompt_tokens=counts.num_prompt_tokens,
            api_calls=counts.api_calls,
            api_errors=counts.api_errors,
            cache=counts.cache,
            num_texts=counts.num_texts,
            num_cut=counts.num_cut,
        )

    def _shown_state(self) -> ReplicaState:
        if self.state == "waiting":
            return "loading"
        return "compiling" if self.state == "loading" and self.beat.is_compiling else self.state
