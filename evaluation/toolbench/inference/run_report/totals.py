"""Sums up a history: tokens, API calls and times, for `run.json` and for the report's first lines."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.records.event_history import Attempt, Call, History
from evaluation.toolbench.inference.records.finish import FINAL_ANSWER, GAVE_UP
from evaluation.toolbench.inference.records.run_record import ApiStatistics, Tokens

_ENDED = ("answered", "gave_up", "no_answer")
FINISH_CALLS = "Finish"  # answered by the environment itself, without an API


@dataclass(frozen=True)
class Totals:
    """`query_seconds` are those of queries that came to an end, in ascending order."""

    tokens: Tokens
    api: ApiStatistics
    generation_s: float
    query_seconds: list[float]
    num_ended: int  # tries that came to their end, with an answer or without one


def totals_of(history: History, run_id: str | None = None) -> Totals:
    """Add up one run, or all there are."""
    attempts = [
        attempt for session in history.sessions if run_id in (None, session.run_id) for attempt in session.attempts
    ]
    ended = [attempt for attempt in attempts if attempt.outcome in _ENDED]
    generations = [generation for attempt in attempts for generation in attempt.generations]
    return Totals(
        tokens=Tokens(
            prompt=sum(generation.prompt_tokens or 0 for generation in generations),
            generated=sum(generated(attempt) for attempt in attempts),
            texts=sum(generation.texts for generation in generations),
            cut=sum(generation.cut for generation in generations),
        ),
        api=api_statistics([call for attempt in attempts for call in attempt.calls]),
        generation_s=round(sum(generation.seconds for generation in generations), 3),
        query_seconds=sorted(round(a.end - a.start, 3) for a in ended if a.end is not None),
        num_ended=len(ended),
    )


def api_statistics(calls: Sequence[Call]) -> ApiStatistics:
    """Add up all calls but those of Finish."""
    calls = [call for call in calls if call.name != FINISH_CALLS]
    seconds = sorted(call.seconds for call in calls)
    codes = Counter(call.code for call in calls)
    cache = CacheUse.total(CacheUse.of(call.cache) for call in calls)
    return ApiStatistics(
        calls=len(calls),
        errors=sum(count for code, count in codes.items() if code not in (0, FINAL_ANSWER, GAVE_UP)),
        hits=cache.hits,
        fuzzy_hits=cache.fuzzy_hits,
        simulated=cache.simulated,
        not_recorded=cache.misses,
        seconds=round(sum(seconds), 3),
        median_s=quantile(seconds, 0.5),
        p95_s=quantile(seconds, 0.95),
        max_s=quantile(seconds, 1.0),
        by_code={str(code): codes[code] for code in sorted(codes)},
    )


def quantile(ascending: Sequence[float], fraction: float) -> float:
    """Return the value that `fraction` of the others do not exceed; 0 of nothing.

    >>> quantile([1.0, 2.0, 3.0, 10.0], 0.5)
    2.0
    """
    if not ascending:
        return 0.0
    return ascending[max(0, math.ceil(fraction * len(ascending)) - 1)]


def generated(attempt: Attempt) -> int:
    """Count the tokens of the whole try if it came to its end, else of its finished steps."""
    if attempt.tokens is not None:
        return attempt.tokens
    return sum(generation.tokens or 0 for generation in attempt.generations)
