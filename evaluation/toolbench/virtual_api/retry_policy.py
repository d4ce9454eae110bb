"""Decides whether a call of an API is tried again, and after which wait. Pure: the caller tells the time.

`CallRetryPolicy` is what is allowed, the same for all calls; `CallRetries` is what one call has used of it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from evaluation.toolbench.http_client.retry import backoff_s
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.virtual_api.replies import Reply, RetryReason

_LOOK_AGAIN_S = 2.0  # the longest wait before looking whether a server is back: that costs it nothing


@dataclass(frozen=True)
class CallRetryPolicy:
    """Says how often a call is tried again, and how long it waits in between.

    `failures` counts lost connections and the statuses 429 and 5xx; `rate_limits` the answers "Too many
    requests error..." and "Rate limit per minute error...". A server that cannot be reached at all is looked
    for again for `unreachable_s` seconds, in which it can be started anew. The wait doubles from
    the first to the longest one and is shortened at random by up to half, so that conversations that failed
    together do not return together. All of it happens within the time limit of the call.
    """

    failures: int = 4
    unreachable_s: float = 30.0
    first_wait_s: float = 0.25
    rate_limits: int = 2
    first_rate_limit_wait_s: float = 1.0
    longest_wait_s: float = 8.0

    def __post_init__(self) -> None:
        if any(number < 0 for number in vars(self).values()):
            raise ConfigError(f"retries and waits must be 0 or above: {self}")

    def wait_s(self, reply: Reply, num_retries: int, away_s: float, rng: random.Random) -> float | None:
        """Return seconds to wait before asking again after `num_retries` retries for the same reason; None: give up.

        `away_s` is for how many seconds the server could not be reached, 0 for one that could.
        """
        if reply.retry == "unreachable":
            if away_s >= self.unreachable_s:
                return None
            backoff = backoff_s(self.first_wait_s, num_retries, rng)
            return min(backoff, self.longest_wait_s, _LOOK_AGAIN_S, self.unreachable_s - away_s)
        if reply.retry is None or num_retries >= (self.failures if reply.retry == "failure" else self.rate_limits):
            return None
        first = self.first_wait_s if reply.retry == "failure" else self.first_rate_limit_wait_s
        backoff = backoff_s(first, num_retries, rng)
        return min(max(backoff, reply.retry_after_s or 0.0), self.longest_wait_s)


class NextStep(NamedTuple):
    """Says what follows a reply: `wait_s` seconds of waiting, then the same request again or the end of the call."""

    asks_again: bool
    wait_s: float = 0.0


class CallRetries:
    """Counts the retries of one call, by reason, and decides after each reply what follows it.

    The call ends at `deadline_s`, in seconds of the clock that `after` is told.
    """

    def __init__(self, policy: CallRetryPolicy, deadline_s: float, rng: random.Random) -> None:
        self._policy = policy
        self._deadline_s = deadline_s
        self._rng = rng
        self._counts: Counter[RetryReason] = Counter()
        self._away_since_s: float | None = None

    @property
    def count(self) -> int:
        """Return the retries so far, for whatever reason."""
        return self._counts.total()

    def after(self, reply: Reply, now_s: float) -> NextStep:
        """Return what follows `reply`, which came at `now_s`; a retry is counted here."""
        if reply.retry is None:
            return NextStep(asks_again=False)
        is_away = reply.retry == "unreachable"
        if not is_away:
            self._away_since_s = None
        elif self._away_since_s is None:
            self._away_since_s = now_s
        away_s = 0.0 if self._away_since_s is None else now_s - self._away_since_s
        wait_s = self._policy.wait_s(reply, self._counts[reply.retry], away_s, self._rng)
        if wait_s is None:
            return NextStep(asks_again=False)
        if now_s + wait_s >= self._deadline_s:
            # A server that is away is waited for to the end: the caller can tell by the time whose limit that was.
            return NextStep(asks_again=False, wait_s=self._deadline_s - now_s if is_away else 0.0)
        self._counts[reply.retry] += 1
        return NextStep(asks_again=True, wait_s=wait_s)
