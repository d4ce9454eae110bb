"""Computes pass rates from verdicts: ToolEval's number, and the one over all queries. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.toolbench.inference.records.statuses import SCORES

MISSING = "missing"
UNDECIDED = "undecided"
JUDGED = "judged"


@dataclass(frozen=True)
class QueryScore:
    """Holds what was said of one query. `state` is judged, no_finish, empty, gave_up, missing or undecided.

    `verdicts` has one entry for each repeat, None where there is none; it is empty for a query without an answer.
    """

    query_id: str
    state: str
    verdicts: tuple[str | None, ...] = ()
    total_steps: int | None = None

    def scores(self, num_repeats: int) -> list[float]:
        """Return one score for each repeat; a verdict that is not there counts 0."""
        known = [SCORES[verdict] if verdict else 0.0 for verdict in self.verdicts]
        return known + [0.0] * (num_repeats - len(known))


@dataclass(frozen=True)
class PassRate:
    """Holds rates and their errors in percent. None where there is too little to compute one from.

    `solve_rate` and `std_dev` are ToolEval's: over the queries that have an answer, and the deviation (ddof 0) of the
    repeats. `solve_rate_all` counts all queries, those without an answer as 0. Its errors are `stderr_queries`, of
    having drawn these queries, and `stderr_repeats`, of having asked the judge this many times (both ddof 1).
    """

    solve_rate: float | None
    std_dev: float | None
    solve_rate_all: float
    stderr_queries: float | None
    stderr_repeats: float | None


def pass_rate(queries: Sequence[QueryScore], num_repeats: int) -> PassRate:
    """Return the rates of one model on one set.

    >>> verdicts = [("Solved",) * 3, ("Unsolved",) * 3, ("Unsure", "Solved", "Unsolved")]
    >>> queries = [QueryScore(str(i), "judged", each) for i, each in enumerate(verdicts)]
    >>> rate = pass_rate([*queries, QueryScore("3", "missing")], 3)
    >>> [round(x, 2) for x in (rate.solve_rate_all, rate.stderr_queries, rate.stderr_repeats)]
    [37.5, 23.94, 7.22]
    """
    all_scores = np.array([query.scores(num_repeats) for query in queries])  # (num_queries, num_repeats)
    answered = all_scores[[query.state != MISSING for query in queries]]
    repeats = [sum(column) / len(answered) for column in answered.T.tolist()] if len(answered) else []
    return PassRate(
        solve_rate=float(np.mean(repeats) * 100) if repeats else None,
        std_dev=float(np.std(repeats) * 100) if repeats else None,
        solve_rate_all=float(all_scores.mean() * 100),
        stderr_queries=standard_error(all_scores.mean(axis=1).tolist(), 100),
        stderr_repeats=standard_error(all_scores.mean(axis=0).tolist(), 100),
    )


def standard_error(values: Sequence[float], factor: float = 1.0) -> float | None:
    """Return the standard error of the mean of `values`, times `factor`; None for fewer than two."""
    if len(values) < 2:
        return None
    return float(np.std(values, ddof=1) / math.sqrt(len(values)) * factor)
