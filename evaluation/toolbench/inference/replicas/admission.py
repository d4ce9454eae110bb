"""Decides how many conversations a replica takes at once where nobody has said: as many as its KV cache carries.

A conversation grows while it runs and gives everything back when it ends. So what counts is not what those that run
hold now, but the most that they will hold together from now on: right after a start all are short and will be long
at the same time; later some end while others grow. How long they become is learned from those that have ended, and
from how far the others have come without ending; before that an expectation stands in.

Where too many have been let in, because they become longer than any before them, the youngest are held back between
two of their generations until older ones have ended: it is better to read a few of them again later than to take
pages from all of them in turn. Below that the engine pauses sequences when its pages run out; those that it has to
pause again before they have moved on lower the number.

Pure: lengths and counts in, a number out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

import numpy as np
import numpy.typing as npt

from evaluation.toolbench.inference.multi_gpu.expectation import Expectation

_STAY_FILL, _JOIN_FILL = 0.95, 0.89  # of the KV cache, for conversations that run already and for those that join
_REMEMBERED = 256  # queries that have ended
_PRIOR_SPREAD = (0.5, 0.75, 1.0, 1.5, 2.4)  # times the expected length at the end: what the first ones may be like
_PRIOR_WEIGHT = 2  # queries that each of those counts for
_TAIL = 1.0  # exponent of the tail: of those that are longer than all before, half go on to twice their length
_AHEAD = 24  # points at which the future is looked at
_LOWERED = 0.9  # of the number that ran when sequences were paused again before they had moved on
_RAISED = 1.02  # times as many again after as many ends as there are conversations

Floats = npt.NDArray[np.float64]


class Admission:
    """Decides for one replica, whose KV cache holds `kv_tokens`; never more than `most` conversations, never none.

    `max_tokens` is the length that no conversation exceeds.
    """

    def __init__(self, kv_tokens: int, most: int, max_tokens: int, expected: Expectation | None = None) -> None:
        expected = expected or Expectation()
        self._kv_tokens = kv_tokens
        self._most = most
        self._max_tokens = max_tokens
        end = min(max_tokens, expected.end_tokens * expected.mean_of(max_tokens) / expected.mean_tokens)
        self._start = min(expected.start_tokens, end / 2)  # tokens of a conversation's first prompt
        self._lengths: dict[Hashable, int] = {}  # the oldest first
        self._prior = [int(end * times) for times in _PRIOR_SPREAD for _ in range(_PRIOR_WEIGHT)]
        self._ends: deque[int] = deque(maxlen=_REMEMBERED)
        self._shared = 0.0  # tokens of each that it shares with the others: they are held once
        self._number = 0
        self._limit = float(most)
        self._pauses = 0

    def grew(self, query: Hashable, num_tokens: int) -> None:
        """Note that a conversation has come to `num_tokens`."""
        if query not in self._lengths:
            self._start += (min(num_tokens, self._max_tokens) - self._start) / 8
        self._lengths[query] = max(num_tokens, self._lengths.get(query, 0))

    def ended(self, query: Hashable) -> None:
        """Note that a conversation is over, and learn from its length."""
        length = self._lengths.pop(query, None)
        if length is not None:
            self._ends.append(length)
            self._limit = min(self._limit * _RAISED ** (1 / max(1.0, self._limit)), float(self._most))

    def number(self, in_flight: int, *, used_tokens: int, repeated_pauses: int) -> int:
        """Return how many conversations there should be while `in_flight` are.

        If that is fewer, the oldest go on. `used_tokens` are those that pages are held for; `repeated_pauses` counts,
        since the start, sequences that the engine has paused twice without a token in between.
        """
        unknown = max(0, in_flight - len(self._lengths))
        lengths = np.array([*self._lengths.values(), *[self._start] * unknown], float)
        if repeated_pauses > self._pauses:
            self._pauses = repeated_pauses
            self._limit = max(1.0, min(self._limit, self._number) * _LOWERED)
        active = lengths[: self._number]
        if used_tokens < _JOIN_FILL * self._kv_tokens and len(active) > 1:  # otherwise some have lost what they held
            shared = (active.sum() - used_tokens) / (len(active) - 1)
            self._shared += (min(max(shared, 0.0), 0.9 * self._start) - self._shared) / 8
        self._number = int(max(1, min(self._fitting(lengths), self._limit, self._most)))
        return self._number

    def _fitting(self, lengths: Floats) -> int:
        """Return how many fit, the oldest first: of those that are there, and then new ones."""
        longest = max([*self._prior, *self._ends, *lengths.tolist(), self._start])
        ahead = np.linspace(0, min(self._max_tokens, 1.5 * longest), _AHEAD)
        together = np.cumsum(self._held(lengths, lengths, ahead), axis=0)  # (conversations, ahead)
        fill = np.where(np.arange(len(lengths)) < self._number, _STAY_FILL, _JOIN_FILL) * self._kv_tokens
        fits = (together <= fill[:, None]).all(axis=1)
        if not fits.all():
            return int(fits.argmin())
        new = self._held(np.array([self._start]), lengths, ahead)[0]
        left = _JOIN_FILL * self._kv_tokens - together[-1:].sum(axis=0)
        counted = new >= (self._start - self._shared) / 4
        return len(lengths) + max(0, int(np.floor((left[counted] / new[counted]).min())))

    def _held(self, of: Floats, running: Floats, ahead: Floats) -> Floats:
        """Return (conversations, ahead): tokens that those of lengths `of` are expected to hold when they have grown
        further.

        By the Kaplan-Meier estimate of how many reach a length, in which those that run count as far as they have come.
        """
        ends = np.sort(np.array([*self._prior, *self._ends], float))
        reached = len(ends) - np.arange(len(ends)) + (running[:, None] >= ends).sum(axis=0)
        survival = np.concatenate([[1.0], np.cumprod(1 - 1 / (reached + 1))])

        def share_reaching(tokens: Floats) -> Floats:
            share: Floats = survival[np.searchsorted(ends, tokens, side="right")]
            return share

        later = np.minimum(of[:, None] + ahead, self._max_tokens)
        now = share_reaching(of)[:, None]
        lasting = share_reaching(later) / now
        beyond = np.maximum(of[:, None], ends[-1])  # longer than all that have ended
        lasting *= np.where(later > beyond, (beyond / later) ** _TAIL, 1.0)
        held: Floats = (later - self._shared) * lasting
        return held
