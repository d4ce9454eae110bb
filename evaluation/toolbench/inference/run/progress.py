"""Follows how far a run is: its answers and failures on disk, and the counts of what came of its queries."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from evaluation.toolbench.inference.records.answers import AnswerFolder, Outcome
from evaluation.toolbench.inference.records.failures import FailureLog
from evaluation.toolbench.inference.records.problem import Problem
from evaluation.toolbench.inference.records.queries import Query
from evaluation.toolbench.inference.run.failure_causes import FailureCauses
from evaluation.toolbench.inference.run.summary import SetSummary

logger = logging.getLogger(__name__)

_TOLD_AT = {10**power for power in range(7)}


class RunProgress:
    """Keeps the answers of one method in `folder`, the failures beside them, and the run's counts.

    `causes` counts what fails; sets of one run share it, so that what is wrong with all of them is told once.
    """

    def __init__(self, folder: str | Path, method: str, *, name: str = "", causes: FailureCauses | None = None) -> None:
        self.answers = AnswerFolder(folder, method)
        self.failures = FailureLog(folder, method)
        self.summary = SetSummary(self.answers.folder, num_queries=0, name=name)
        self._causes = causes or FailureCauses()
        self.other_texts: list[str] = []  # ids of queries that were answered with another text

    def left_of(self, queries: Sequence[Query]) -> list[Query]:
        """Return the queries without a complete answer; the others are counted as done earlier."""
        left, done = [], []
        for query in queries:
            outcome = self.answers.outcome(query.query_id)
            if outcome is None:
                left.append(query)
            else:
                done.append(query.query_id)
                self.summary.earlier.add(outcome)
                if _is_other_text(query, outcome):
                    self.other_texts.append(query.query_id)
        self.failures.forget(done)  # of a run that was killed between an answer and this
        return left

    def has_other_text(self, query: Query) -> bool:
        """Return whether this query has a complete answer that was given to another text."""
        outcome = self.answers.outcome(query.query_id)
        return outcome is not None and _is_other_text(query, outcome)

    def is_answered(self, query_id: str) -> bool:
        return self.answers.outcome(query_id) is not None

    def note_answer(self, query_id: str) -> None:
        """Count a query whose answer is on disk."""
        self.failures.forget([query_id])
        self.summary.now.add(self.answers.outcome(query_id))

    def note_failure(self, query_id: str, problem: Problem) -> None:
        """Count a query that failed, and keep why in failures.json. A cause that was told before is told again when
        it has become ten times as frequent."""
        times = self._causes.add(problem)
        if times in _TOLD_AT:
            often = f" ({times} queries so far)" if times > 1 else ""
            message = " ".join(problem.message.split())[:500]
            logger.warning("query %s failed: %s: %s%s", query_id, problem.type, message, often)
        self.failures.record(query_id, problem)
        self.summary.now.add(None)

    def forget(self, query_ids: Iterable[str]) -> None:
        """Remove what earlier runs of this method left of these queries, and nothing else."""
        forgotten = list(query_ids)
        self.answers.remove(forgotten)
        self.failures.forget(forgotten)


def _is_other_text(query: Query, outcome: Outcome) -> bool:
    return bool(query.text) and query.text != outcome.text  # an entry that cannot be run has none
