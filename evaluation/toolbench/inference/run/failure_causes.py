"""Counts failures by their cause: the same error of many queries is one line with a count."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from evaluation.toolbench.inference.records.problem import Problem

_LONGEST = 300  # characters of a message that are shown
# What differs between two queries that fail for the same reason: numbers, and what stands in quotes.
_PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|<<.*?>>|\d+(?:\.\d+)?")


class FailureCauses:
    """Counts problems that differ in particulars only as one, under the words of the first."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, problem: Problem) -> int:
        """Count a problem; return how often its cause has now been seen."""
        message = " ".join(problem.message.split())
        cause = f"{problem.type}: {_PARTICULARS.sub('*', message)}"
        self._first.setdefault(cause, f"{problem.type}: {message}"[:_LONGEST])
        self._counts[cause] += 1
        return self._counts[cause]

    def by_frequency(self) -> Mapping[str, int]:
        """Return the first wording of each cause and how often it was seen, the most frequent first."""
        return {self._first[cause]: count for cause, count in self._counts.most_common()}
