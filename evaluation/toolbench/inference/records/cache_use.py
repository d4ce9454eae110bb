"""Counts how API calls found their replies in the server's cache, as its own header tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evaluation.toolbench.virtual_api.replies import CacheMatch

_MANY_MISSES = 0.1  # of the calls: from here on they are warned of
_MANY_ERRORS = 0.9  # models call with wrong arguments, too; a server that works fails far less often


@dataclass(frozen=True, slots=True)
class CacheUse:
    """Counts calls by what the cache had; `hits` are all that it answered, `fuzzy_hits` those to other arguments
    that mean the same, `simulated` what it lacked and a simulator answered, `misses` what nobody answered. Servers
    without a cache tell of none."""

    hits: int = 0
    fuzzy_hits: int = 0
    misses: int = 0
    simulated: int = 0

    def __add__(self, other: CacheUse) -> CacheUse:
        return CacheUse(
            self.hits + other.hits,
            self.fuzzy_hits + other.fuzzy_hits,
            self.misses + other.misses,
            self.simulated + other.simulated,
        )

    @classmethod
    def total(cls, uses: Iterable[CacheUse]) -> CacheUse:
        return sum(uses, cls())

    @classmethod
    def of(cls, match: CacheMatch | None) -> CacheUse:
        """Return the count of one call.

        >>> CacheUse.of("fuzzy") + CacheUse.of("miss") + CacheUse.of("simulated") + CacheUse.of(None)
        CacheUse(hits=1, fuzzy_hits=1, misses=1, simulated=1)
        """
        return cls(
            hits=int(match in ("hit", "fuzzy")),
            fuzzy_hits=int(match == "fuzzy"),
            misses=int(match == "miss"),
            simulated=int(match == "simulated"),
        )


def misses_in_words(num_calls: int, num_misses: int) -> str | None:
    """Return a line on the calls that the cache has no reply to, a warning where they are many; None without any.

    >>> misses_in_words(200, 1)
    '1 of 200 API calls (0.5%) had no reply in the response cache and was answered with an error.'
    """
    if not num_misses:
        return None
    share = num_misses / num_calls
    was = "was" if num_misses == 1 else "were"
    digits = 0 if share >= _MANY_MISSES else 1
    line = (
        f"{num_misses:,} of {num_calls:,} API calls ({share:.{digits}%}) had no reply in the response cache and {was} "
        "answered with an error"
    )
    if share < _MANY_MISSES:
        return f"{line}."
    return f"WARNING: {line}: these answers are not those of a complete cache."


def errors_in_words(num_calls: int, num_errors: int) -> str | None:
    """Return a warning where nearly all calls ended with an error that is not a miss; None where fewer did.

    >>> errors_in_words(200, 200)
    'WARNING: 200 of 200 API calls (100%) ended with an error: see in the report what the API server said.'
    """
    if num_errors < max(1, _MANY_ERRORS * num_calls):
        return None
    share = f"{num_errors:,} of {num_calls:,} API calls ({num_errors / num_calls:.0%})"
    return f"WARNING: {share} ended with an error: see in the report what the API server said."


def simulated_in_words(num_calls: int, num_simulated: int) -> str | None:
    """Return a line on the calls that a simulator answered; None without any.

    >>> simulated_in_words(200, 30)
    '30 of 200 API calls (15.0%) were answered by the simulator: compare with runs that had the same one.'
    """
    if not num_simulated:
        return None
    was = "was" if num_simulated == 1 else "were"
    return (
        f"{num_simulated:,} of {num_calls:,} API calls ({num_simulated / num_calls:.1%}) {was} answered by the "
        "simulator: compare with runs that had the same one."
    )
