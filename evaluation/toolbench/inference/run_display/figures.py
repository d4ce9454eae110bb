"""Works out what is shown from one status of the run after another. Knows no clock but theirs."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.records.rates import Rates
from evaluation.toolbench.inference.run_display.status import RunStatus

RATE_OVER_S = 30.0


@dataclass(frozen=True)
class Figures:
    """One moment of a run. `rates` are the run's until now, a replica's those of the last `RATE_OVER_S` seconds."""

    status: RunStatus
    replica_tokens_per_s: Mapping[str, float] = field(default_factory=dict)  # by the replica's name

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
        """Seconds to go, as if the queries that are left took as long as those that are done."""
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
        self._past: deque[tuple[float, dict[str, int]]] = deque()  # (elapsed_s, tokens of each replica)

    def take(self, status: RunStatus) -> Figures:
        """Return the figures at `status`."""
        if status.serving_s is None:  # rates are of the time after loading
            return Figures(status)
        now = status.elapsed_s
        self._past.append((now, {replica.name: replica.num_tokens for replica in status.replicas}))
        # The first one kept is the last one that is old enough.
        while len(self._past) > 1 and self._past[1][0] <= now - RATE_OVER_S:
            self._past.popleft()
        return Figures(status, self._replica_rates())

    def _replica_rates(self) -> dict[str, float]:
        (then, before), (now, tokens) = self._past[0], self._past[-1]
        if now <= then:
            return {}
        return {name: max(0, number - before.get(name, 0)) / (now - then) for name, number in tokens.items()}
