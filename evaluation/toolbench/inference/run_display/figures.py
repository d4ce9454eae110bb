"""Works out what is shown from one status of the run after another. Knows no clock but theirs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.records.rates import Rates
from evaluation.toolbench.inference.run_display.status import ReplicaStatus, RunStatus

RATE_OVER_S = 30.0


@dataclass(frozen=True)
class Figures:
    """Shows one moment of a run. `rates` are the run's until now, a replica's those of the last `RATE_OVER_S`."""

    status: RunStatus
    replica_tokens_per_s: Mapping[str, float] = field(default_factory=dict)  # by the replica's name
    replica_prompt_tokens_per_s: Mapping[str, float] = field(default_factory=dict)  # by the replica's name

    @property
    def rates(self) -> Rates:
        return self.status.rates

    @property
    def done(self) -> int:
        return self.status.answered + self.status.gave_up + self.status.no_answer + self.status.failed

    @property
    def left(self) -> int:
        return max(0, self.status.num_queries - self.done)

    @property
    def left_s(self) -> float | None:
        """Return the seconds to go, as if the queries that are left took as long as those that are done."""
        if not self.left:
            return 0.0
        if not self.done or self.status.serving_s is None:
            return None
        return self.left * self.status.serving_s / self.done

    @property
    def in_flight(self) -> int:
        return sum(replica.in_flight for replica in self.status.replicas)

    @property
    def api_calls(self) -> int:
        return sum(replica.api_calls for replica in self.status.replicas)

    @property
    def api_errors(self) -> int:
        return sum(replica.api_errors for replica in self.status.replicas)

    @property
    def cache(self) -> CacheUse:
        return CacheUse.total(replica.cache for replica in self.status.replicas)


class Trend:
    """Takes the statuses of a run in their order."""

    def __init__(self) -> None:
        self._past: deque[RunStatus] = deque()

    def take(self, status: RunStatus) -> Figures:
        """Return the figures at `status`."""
        if status.serving_s is None:  # rates are of the time after loading
            return Figures(status)
        self._past.append(status)
        # The first one kept is the last one that is old enough.
        while len(self._past) > 1 and self._past[1].elapsed_s <= status.elapsed_s - RATE_OVER_S:
            self._past.popleft()
        return Figures(
            status,
            self._replica_rates(lambda replica: replica.num_tokens),
            self._replica_rates(lambda replica: replica.num_prompt_tokens),
        )

    def _replica_rates(self, count: Callable[[ReplicaStatus], int]) -> dict[str, float]:
        then, now = self._past[0], self._past[-1]
        seconds = now.elapsed_s - then.elapsed_s
        if seconds <= 0:
            return {}
        before = {replica.name: count(replica) for replica in then.replicas}
        return {each.name: max(0, count(each) - before.get(each.name, 0)) / seconds for each in now.replicas}
