"""Says how a run is doing at one moment, for whoever shows it. Plain values, no effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.records.rates import Rates, rates_of

ReplicaState = Literal["loading", "compiling", "running", "restarting", "ended", "failed"]


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """Says how one replica is doing. Counts are of this run, its restarts included."""

    name: str  # "replica 0"
    gpus: tuple[str, ...]  # short names like "cuda:0", () on the CPU
    state: ReplicaState
    in_flight: int = 0  # conversations
    num_tokens: int = 0  # generated so far in this run
    num_prompt_tokens: int = 0  # read by the model; 0 where the engine does not say
    api_calls: int = 0
    api_errors: int = 0
    cache: CacheUse = field(default_factory=CacheUse)  # of those calls
    num_texts: int = 0  # generations without a constraint
    num_cut: int = 0  # of them, those that ended at the longest length
    gpu_memory: tuple[tuple[int, int], ...] = ()  # (used, total) bytes of each of its GPUs
    gpu_busy: tuple[int | None, ...] = ()  # percent of each; None where NVML does not say


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Says how far one of several sets of queries of a run is. Counts are of this run."""

    name: str
    num_queries: int  # to run now
    answered: int = 0
    gave_up: int = 0
    no_answer: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        return self.answered + self.gave_up + self.no_answer + self.failed


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Says how the whole run is doing."""

    num_queries: int  # to run now
    answered: int
    gave_up: int
    no_answer: int
    failed: int
    elapsed_s: float
    replicas: tuple[ReplicaStatus, ...]
    serving_s: float | None = None  # since the first replica had loaded; None before
    are_conversations: bool = True  # of agents that call APIs; otherwise a query is done or has failed
    sets: tuple[SetStatus, ...] = ()  # where there are several

    @property
    def phase(self) -> Literal["loading", "compiling", "running"]:
        """Return what the run as a whole is at: until the first replica is ready, what the furthest one does."""
        if self.serving_s is not None:
            return "running"
        return "compiling" if any(replica.state == "compiling" for replica in self.replicas) else "loading"

    @property
    def rates(self) -> Rates:
        """Return the run's rates until now."""
        return rates_of(
            num_ended=self.answered + self.gave_up + self.no_answer,
            num_tokens=sum(replica.num_tokens for replica in self.replicas),
            serving_s=self.serving_s,
        )
