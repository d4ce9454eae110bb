"""Defines once how fast a run is, for display, table, run.json and report.

Serving begins when the first replica has loaded its model and ends with the run, so that one replica and several, and
a model that loads fast or slowly, can be compared. A query counts when it has come to its end, with an answer or
without one; one that failed does not, because it is run again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """Holds rates over all of the serving time; None before there is any."""

    tokens_per_s: float | None = None  # generated ones
    queries_per_min: float | None = None


def rates_of(*, num_ended: int, num_tokens: int, serving_s: float | None) -> Rates:
    """Return the rates of a run that has served for `serving_s` seconds.

    >>> rates_of(num_ended=30, num_tokens=6000, serving_s=60.0)
    Rates(tokens_per_s=100.0, queries_per_min=30.0)
    """
    if not serving_s or serving_s <= 0:
        return Rates()
    return Rates(num_tokens / serving_s, 60 * num_ended / serving_s)
