"""Says what a judge can say of an answer, how much that counts, and how ToolEval's files have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

SOLVED = "Solved"
UNSURE = "Unsure"
UNSOLVED = "Unsolved"

SCORES = {SOLVED: 1.0, UNSURE: 0.5, UNSOLVED: 0.0}
FILE_PREFIX = "AnswerStatus."  # of a status in ToolEval's files


def parse_statuses(is_solved: Mapping[Any, Any]) -> dict[int, str]:
    """Return repeat -> Solved, Unsure or Unsolved.

    >>> parse_statuses({"0": "AnswerStatus.Solved", 1: "AnswerStatus.Unsure", "2": "?"})
    {0: 'Solved', 1: 'Unsure'}
    """
    named = {str(repeat): str(status).removeprefix(FILE_PREFIX) for repeat, status in is_solved.items()}
    return {int(repeat): status for repeat, status in named.items() if _is_number(repeat) and status in SCORES}


def _is_number(repeat: str) -> bool:
    return repeat.isdecimal() and len(repeat) < 10  # Python converts no number of thousands of digits


def majority(statuses: Iterable[str]) -> str | None:
    """Return the most frequent status, Unsure for a tie, None without any.

    >>> majority(["Solved", "Unsolved", "Solved"]), majority(["Solved", "Unsolved"])
    ('Solved', 'Unsure')
    """
    counts = Counter(statuses).most_common()
    if not counts:
        return None
    return UNSURE if len(counts) > 1 and counts[0][1] == counts[1][1] else counts[0][0]
