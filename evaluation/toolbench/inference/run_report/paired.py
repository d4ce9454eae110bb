"""Tests whether two runs differ over the queries that both have. Pure: numbers in, numbers out, the same every time.

Yes-or-no outcomes (solved, answered) have the exact McNemar test, which looks at nothing but the queries on which the
runs disagree. Means (score, steps, tokens, seconds) have a percentile bootstrap over queries: a query is drawn with
what both runs made of it, so what makes a query hard or long for both is in neither's favour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 10_000
LEVEL = 0.95
_SEED = 0
_NUMBERS_AT_ONCE = 2_000_000  # drawn before they are summed up: 16 MB


@dataclass(frozen=True)
class PairedMeans:
    """Holds means of two runs over the same `num_queries` queries, and the interval of right minus left.

    `low` and `high` are None for fewer than two queries.
    """

    num_queries: int
    left: float
    right: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Agreement:
    """Counts on how many queries two runs said yes: `both`, only one of them, `neither`; `p_value` is McNemar's."""

    both: int
    left_only: int
    right_only: int
    neither: int
    p_value: float


def mcnemar(left_only: int, right_only: int) -> float:
    """Compute the two-sided p-value of the exact McNemar test, 1.0 where the runs never disagree.

    If neither run were better, each disagreement would fall to either side like a coin (McNemar 1947; the exact form
    is the sign test).

    >>> mcnemar(0, 5), mcnemar(3, 3), mcnemar(0, 0)
    (0.0625, 1.0, 1.0)
    """
    total = left_only + right_only
    if not total:
        return 1.0
    tail = sum(math.comb(total, k) for k in range(min(left_only, right_only) + 1))
    return min(1.0, 2 * tail / 2**total)


def agreement(left: Sequence[bool], right: Sequence[bool]) -> Agreement:
    """Count the four outcomes of two runs over the same queries, in the same order.

    >>> agreement([True, True, False], [True, False, False])
    Agreement(both=1, left_only=1, right_only=0, neither=1, p_value=1.0)
    """
    pairs = list(zip(left, right, strict=True))
    left_only, right_only = pairs.count((True, False)), pairs.count((False, True))
    p_value = mcnemar(left_only, right_only)
    return Agreement(pairs.count((True, True)), left_only, right_only, pairs.count((False, False)), p_value)


def paired_means(left: Sequence[float | None], right: Sequence[float | None]) -> PairedMeans | None:
    """Compare the means of two runs over the same queries, in the same order; None where no query has both values.

    >>> paired_means([1, 2, None], [2, 3, 9])
    PairedMeans(num_queries=2, left=1.5, right=2.5, low=1.0, high=1.0)
    """
    pairs = [(x, y) for x, y in zip(left, right, strict=True) if x is not None and y is not None]
    if not pairs:
        return None
    x, y = np.array(pairs, dtype=float).T
    low, high = bootstrap_interval(y - x) or (None, None)
    return PairedMeans(len(pairs), float(x.mean()), float(y.mean()), low, high)


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, *, num_resamples: int = NUM_RESAMPLES, level: float = LEVEL, seed: int = _SEED
) -> tuple[float, float] | None:
    """Compute the percentile bootstrap interval of the mean of `values`; None for fewer than two (Efron 1979).

    >>> bootstrap_interval([3.0, 3.0, 3.0])
    (3.0, 3.0)
    """
    observed = np.asarray(values, dtype=float)
    if len(observed) < 2:
        return None
    rng = np.random.default_rng(seed)
    at_once = max(1, _NUMBERS_AT_ONCE // len(observed))
    means = [
        observed[rng.integers(0, len(observed), (min(at_once, num_resamples - done), len(observed)))].mean(axis=1)
        for done in range(0, num_resamples, at_once)
    ]
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)
