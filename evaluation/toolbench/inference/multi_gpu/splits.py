"""Where a row of blocks is cut, so that each GPU in turn has a run of them. Pure arithmetic."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

_HALVINGS = 40  # of a time that is looked for
_MORE_THAN_ENOUGH = 1.01  # so that no rounding counts


def fill_in_order(costs: Sequence[int], room: Sequence[int]) -> list[int] | None:
    """Where each GPU's run of blocks ends, when each in turn takes as many as it has room for.

    None when blocks are left over. No other split in this order does better: whatever block it has
    reached after some GPUs, this one has reached it too. So more room never turns a fit into a misfit.

    >>> fill_in_order([3, 2, 2, 3], [5, 4, 9]), fill_in_order([3, 2, 2, 3], [5, 4, 2])
    ([2, 3, 4], None)
    """
    reached = [0, *accumulate(costs)]
    ends: list[int] = []
    position = 0
    for bytes_here in room:
        position = max(position, bisect_right(reached, reached[position] + bytes_here) - 1)
        ends.append(position)
    return ends if position == len(costs) else None


def fastest_in_order(costs: Sequence[int], room: Sequence[int], seconds: Sequence[Sequence[float]]) -> list[int]:
    """Like `fill_in_order`, for what fits: of such splits the one whose slowest GPU takes least.

    `seconds[i][j]` is what GPU i takes for block j.

    >>> fastest_in_order([1, 1, 1, 1, 3], [9, 9], [[1, 1, 1, 1, 2], [1, 1, 1, 1, 2]])
    [3, 5]
    """

    def within(limit: float) -> list[int] | None:
        ends: list[int] = []
        position = 0
        for bytes_here, seconds_here in zip(room, seconds, strict=True):
            bytes_left, seconds_left = bytes_here, limit
            while position < len(costs) and costs[position] <= bytes_left and seconds_here[position] <= seconds_left:
                bytes_left -= costs[position]
                seconds_left -= seconds_here[position]
                position += 1
            ends.append(position)
        return ends if position == len(costs) else None

    low, high = 0.0, _MORE_THAN_ENOUGH * max(map(sum, seconds))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if within(middle) is not None else (middle, high)
    ends = within(high)
    assert ends is not None  # what fits without a limit fits under one that is never reached
    return ends


def has_room(ends: Sequence[int], costs: Sequence[int], room: Sequence[int]) -> bool:
    """Whether runs of blocks that end at `ends` fit; a GPU without a block needs no room."""
    runs = zip(pairwise([0, *ends]), room, strict=True)
    return all(start == end or sum(costs[start:end]) <= here for (start, end), here in runs)
