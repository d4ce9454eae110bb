"""Decides how long to wait before a request is sent again. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

from evaluation.toolbench.inference.errors import ConfigError


@dataclass(frozen=True)
class RetryPolicy:
    """Says how often a request is tried again after a server's failure, and how long it waits in between.

    `failures` counts what may be the request's own fault: 500, lost connections, time-outs and replies that
    cannot be read. Statuses that say "not now" (429, 502, 503, 504) are tried again for as long as the caller
    waits for servers. The wait doubles from the first to the longest one and is shortened at random by
    up to half, so that requests that failed together do not return together.
    """

    failures: int = 5
    first_wait_s: float = 0.25
    longest_wait_s: float = 8.0

    def __post_init__(self) -> None:
        if any(number < 0 for number in vars(self).values()):
            raise ConfigError(f"retries and waits must be 0 or above: {self}")

    def wait_s(self, num_retries: int, rng: random.Random, asked_for_s: float = 0.0) -> float:
        """Return seconds before retry number `num_retries` (0 is the first), at least what the server asked for."""
        return min(max(backoff_s(self.first_wait_s, num_retries, rng), asked_for_s), self.longest_wait_s)


def backoff_s(first_s: float, num_retries: int, rng: random.Random) -> float:
    """Return seconds that double with each retry, shortened at random by up to half."""
    # The exponent is bounded for the sake of large numbers only.
    return first_s * 2 ** min(num_retries, 30) * rng.uniform(0.5, 1.0)
