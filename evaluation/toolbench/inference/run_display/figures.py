"""Works out rates and the time left from one status of the run after another. Knows no clock but theirs."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from evaluation.toolbench.inference.run_display.status import RunStatus

RATE_OVER_S = 30.0


@dataclass(frozen=True)
class Figures:
    """One moment of a run. Rates are None until there is something to tell them by."""

    status: RunStatus
    tokens_per_s: float | None = None
    replica_tokens_per_s: Mapping[str, float] = field(default_factory=dict)  # by the replica's name
    left_s: float | None = None

    @property
    def done(self) -> int:
        return self.status.answered + self.status.gave_up + self.status.failed

    @property
    def left(self) -> int:
        return max(0, self.status.num_queries - self.done)

    @property
    def in_flight(self) -> int:
        return sum(replica.in_flight for replica in self.status.replicas)

    @property
    def api_calls(self) -> int:
        return sum(replica.api_calls for replica in self.status.replicas)

    @property
    def api_errors(self) -> int:
        return sum(replica.api_errors for replica in self.status.replicas)


class Trend:
    """Takes the statuses of a run in their order."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, dict[str, int]]] = deque()  # (elapsed_s, tokens of each replica)
        self._running_since: float | None = None

    def take(self, status: RunStatus) -> Figures:
        """Return the figures at `status`. Tokens/s are over the last `RATE_OVER_S` seconds, or all there are."""
        now = status.elapsed_s
        self._past.append((now, {replica.name: replica.num_tokens for replica in status.replicas}))
        # The first one kept is the last one that is old enough.
        while len(self._past) > 1 and self._past[1][0] <= now - RATE_OVER_S:
            self._past.popleft()
        if self._running_since is None and any(replica.state == "running" for replica in status.replicas):
            self._running_since = now
        per_replica = self._replica_rates()
        figures = Figures(status, sum(per_replica.values()) if per_replica else None, per_replica)
        return replace(figures, left_s=self._left_s(figures))

    def _replica_rates(self) -> dict[str, float]:
        (then, before), (now, tokens) = self._past[0], self._past[-1]
        if now <= then:
            return {}
        return {name: max(0, number - before.get(name, 0)) / (now - then) for name, number in tokens.items()}

    def _left_s(self, figures: Figures) -> float | None:
        """Assume that the queries that are left take as long as those that are done, loading the model aside."""
        if not figures.left:
            return 0.0
        if not figures.done or self._running_since is None:
            return None
        return figures.left * (figures.status.elapsed_s - self._running_since) / figures.done
