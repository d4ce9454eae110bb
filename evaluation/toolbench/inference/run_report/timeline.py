"""Turns a history into curves: conversations generating, waiting for an API, and GPU memory over time.

Pure: events in, short lists of numbers out. A curve has at most `NUM_BINS` values, so that a page with a
day's run draws as fast as one with a minute's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from evaluation.toolbench.inference.records.event_history import (
    Call,
    Generation,
    History,
    MemorySample,
    ReplicaSession,
    UnderWay,
)

NUM_BINS = 360

Span = tuple[float, float]  # start, end


@dataclass(frozen=True)
class ReplicaTimeline:
    """Holds the mean number of conversations in each state, per bin of the run's time."""

    replica: int
    gpus: list[str]
    num_conversations: int
    generating: list[float]
    waiting: list[float]  # for an API
    other: list[float]  # in flight, and doing neither
    loading: list[float]  # the share of the bin in which its model was being loaded
    busy: float  # fraction of the replica's time with at least one conversation generating
    was_killed: bool


@dataclass(frozen=True)
class MemoryCurve:
    """Holds the most bytes seen per bin; None in bins without a sample."""

    gpu: str
    total_bytes: int
    used_bytes: list[int | None]


@dataclass(frozen=True)
class RunTimeline:
    """Covers one start of the program, from when its first model began to load to its last event.

    `start` is in seconds since the epoch; `serving_s` is the part after the first replica was ready.
    """

    run_id: str
    start: float
    seconds: float
    serving_s: float
    replicas: list[ReplicaTimeline]
    memory: list[MemoryCurve]


def timelines(history: History, num_bins: int = NUM_BINS) -> list[RunTimeline]:
    """Return one timeline for each run in `history`, earliest first."""
    runs: dict[str, list[ReplicaSession]] = {}
    for session in history.sessions:
        runs.setdefault(session.run_id, []).append(session)
    return [_run_timeline(run_id, sessions, num_bins) for run_id, sessions in runs.items()]


def mean_concurrency(spans: Iterable[Span], start: float, seconds: float, num_bins: int) -> list[float]:
    """Count how many of `spans` are under way, on average, in each of the bins of [start, start + seconds).

    >>> mean_concurrency([(0, 4), (1, 2)], 0, 4, 4)
    [1.0, 2.0, 1.0, 1.0]
    """
    width = seconds / num_bins
    covered = [0.0] * num_bins
    if width <= 0:
        return covered
    for begin, end in spans:
        first = max(0, int((begin - start) / width))
        for position in range(first, num_bins):
            bin_start = start + position * width
            if bin_start >= end:
                break
            covered[position] += max(0.0, min(end, bin_start + width) - max(begin, bin_start))
    return [round(time / width, 3) for time in covered]


def covered_seconds(spans: Iterable[Span]) -> float:
    """Return the length of the union of `spans`.

    >>> covered_seconds([(0, 2), (1, 3), (5, 6)])
    4.0
    """
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def _run_timeline(run_id: str, sessions: list[ReplicaSession], num_bins: int) -> RunTimeline:
    start = min(session.start - session.load_s for session in sessions)
    end = max(session.end for session in sessions)
    seconds = end - start
    by_replica = groupby(sorted(sessions, key=lambda session: session.replica), key=lambda session: session.replica)
    return RunTimeline(
        run_id,
        start,
        round(seconds, 3),
        round(end - min(session.start for session in sessions), 3),
        [_replica_timeline(replica, list(group), start, seconds, num_bins) for replica, group in by_replica],
        _memory_curves([sample for session in sessions for sample in session.memory], start, seconds, num_bins),
    )


def _replica_timeline(
    replica: int, sessions: list[ReplicaSession], start: float, seconds: float, num_bins: int
) -> ReplicaTimeline:
    """Draw one replica; several sessions are its restarts."""
    attempts = [attempt for session in sessions for attempt in session.attempts]
    in_flight = [(attempt.start, attempt.last_sign_of_life()) for attempt in attempts]
    cut_off = [attempt.under_way for attempt in attempts if attempt.under_way]
    generating = _spans(span for attempt in attempts for span in attempt.generations)
    generating += _spans(span for span in cut_off if span.doing == "generation")
    waiting = _spans(span for attempt in attempts for span in attempt.calls)
    waiting += _spans(span for span in cut_off if span.doing == "call")
    loading = [(session.start - session.load_s, session.start) for session in sessions]
    curves = [mean_concurrency(spans, start, seconds, num_bins) for spans in (in_flight, generating, waiting)]
    alive = sum(session.end - session.start for session in sessions)
    return ReplicaTimeline(
        replica=replica,
        gpus=sessions[-1].gpus,
        num_conversations=max(session.num_conversations for session in sessions),
        generating=curves[1],
        waiting=curves[2],
        loading=mean_concurrency(loading, start, seconds, num_bins),
        other=[round(max(0.0, n - g - w), 3) for n, g, w in zip(*curves, strict=True)],
        busy=round(covered_seconds(generating) / alive, 4) if alive > 0 else 0.0,
        was_killed=not all(session.has_ended for session in sessions),
    )


def _spans(events: Iterable[Generation | Call | UnderWay]) -> list[Span]:
    return [(event.start, event.start + event.seconds) for event in events]


def _memory_curves(samples: list[MemorySample], start: float, seconds: float, num_bins: int) -> list[MemoryCurve]:
    curves: dict[str, MemoryCurve] = {}
    for sample in samples:
        curve = curves.setdefault(sample.gpu, MemoryCurve(sample.gpu, sample.total_bytes, [None] * num_bins))
        position = min(num_bins - 1, int((sample.t - start) / seconds * num_bins)) if seconds > 0 else 0
        curve.used_bytes[position] = max(curve.used_bytes[position] or 0, sample.used_bytes)
    return [curves[gpu] for gpu in sorted(curves)]
