"""Where a row of blocks is cut, so that each GPU in turn has a run of them. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

_HALVINGS = 40  # of a time that is looked for
_MORE_THAN_ENOUGH = 1.01  # so that no rounding counts


def fill_in_order(
    costs: Sequence[int],
    room: Sequence[int],
    *,
    seconds: Sequence[Sequence[float]] | None = None,
    limit: float = math.inf,
) -> list[int] | None:
    """Where each GPU's run of blocks ends, when each in turn takes as many as it has room for.

    None when blocks are left over. With `seconds`, where `seconds[i][j]` is what GPU i takes for block j, no run
    takes longer than `limit`. No other split in this order does better: whatever block it has reached after some
    GPUs, this one has reached it too. So more room never turns a fit into a misfit.

    >>> fill_in_order([3, 2, 2, 3], [5, 4, 9]), fill_in_order([3, 2, 2, 3], [5, 4, 2])
    ([2, 3, 4], None)
    """
    ends: list[int] = []
    position = 0
    for gpu, bytes_left in enumerate(room):
        seconds_left = limit
        while position < len(costs):
            bytes_left -= costs[position]
            seconds_left -= seconds[gpu][position] if seconds else 0.0
            if bytes_left < 0 or seconds_left < 0:
                break
            position += 1
        ends.append(position)
    return ends if position == len(costs) else None


def fastest_in_order(costs: Sequence[int], room: Sequence[int], seconds: Sequence[Sequence[float]]) -> list[int]:
    """Like `fill_in_order`, for what fits: of such splits the one whose slowest GPU takes least.

    >>> fastest_in_order([1, 1, 1, 1, 3], [9, 9], [[1, 1, 1, 1, 2], [1, 1, 1, 1, 2]])
    [3, 5]
    """
    low, high = 0.0, _MORE_THAN_ENOUGH * max(map(sum, seconds))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fits = fill_in_order(costs, room, seconds=seconds, limit=middle) is not None
        low, high = (low, middle) if fits else (middle, high)
    ends = fill_in_order(costs, room, seconds=seconds, limit=high)
    assert ends is not None  # what fits without a limit fits under one that is never reached
    return ends


def has_room(ends: Sequence[int], costs: Sequence[int], room: Sequence[int]) -> bool:
    """Whether runs of blocks that end at `ends` fit; a GPU without a block needs no room."""
    runs = zip(pairwise([0, *ends]), room, strict=True)
    return all(start == end or sum(costs[start:end]) <= here for (start, end), here in runs)
