"""Cuts a row of blocks so that each GPU in turn has a run of them. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

_HALVINGS = 40  # of a time that is looked for
_RELAXATION, _RELAXATIONS = 1.5, 20  # of the slowest GPU's time, each time that a GPU would stay empty
_MORE_THAN_ENOUGH = 1.01  # above the exact bound, so that rounding cannot make it infeasible


def fill_in_order(
    costs: Sequence[int],
    room: Sequence[int],
    *,
    seconds: Sequence[Sequence[float]] | None = None,
    limit: float = math.inf,
) -> list[int] | None:
    """Return where each GPU's run of blocks ends, when each in turn takes as many as it has room for.

    None when blocks are left over. With `seconds`, where `seconds[i][j]` is what GPU i takes for block j, no run
    takes longer than `limit`. No other split in this order does better: whatever block it has reached after some
    GPUs, this one has reached it too. So more room never turns a fit into a misfit.

    >>> fill_in_order([3, 2, 2, 3], [5, 4, 9]), fill_in_order([3, 2, 2, 3], [5, 4, 2])
    ([2, 3, 4], None)
    """
    ends = _fill(costs, room, seconds, limit)
    return ends if [0, *ends][-1] == len(costs) else None


def _fill(
    costs: Sequence[int], room: Sequence[int], seconds: Sequence[Sequence[float]] | None, limit: float
) -> list[int]:
    """Fill as `fill_in_order`; blocks may be left over."""
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
    return ends


def fastest_in_order(costs: Sequence[int], room: Sequence[int], seconds: Sequence[Sequence[float]]) -> list[int]:
    """Split like `fill_in_order`, for what fits: of such splits the one whose slowest GPU takes least.

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


def evenly_in_order(costs: Sequence[int], room: Sequence[int], seconds: Sequence[Sequence[float]]) -> list[int]:
    """Split like `fastest_in_order`, but spread over all what the slowest GPU leaves to the others.

    >>> fastest_in_order([1] * 6, [9] * 4, [[1] * 6] * 4), evenly_in_order([1] * 6, [9] * 4, [[1] * 6] * 4)
    ([2, 4, 6, 6], [2, 3, 5, 6])
    """
    return _spread(costs, room, seconds, _slowest(fastest_in_order(costs, room, seconds), seconds) * _MORE_THAN_ENOUGH)


def over_all_in_order(costs: Sequence[int], room: Sequence[int], seconds: Sequence[Sequence[float]]) -> list[int]:
    """Split like `evenly_in_order`, but leave no slower GPU empty either, if a block has room there.

    >>> evenly_in_order([1] * 4, [9] * 3, [[1] * 4, [1] * 4, [9] * 4])
    [2, 4, 4]
    >>> over_all_in_order([1] * 4, [9] * 3, [[1] * 4, [1] * 4, [9] * 4])
    [1, 3, 4]
    """
    fastest = evenly_in_order(costs, room, seconds)
    limit = max(_slowest(fastest, seconds), min(map(sum, seconds)) / len(costs)) * _MORE_THAN_ENOUGH
    splits = [fastest, *(_spread(costs, room, seconds, limit * _RELAXATION**n) for n in range(_RELAXATIONS))]
    return max(splits, key=lambda ends: len({0, *ends}))  # the first of those that use most GPUs


def _spread(costs: Sequence[int], room: Sequence[int], seconds: Sequence[Sequence[float]], limit: float) -> list[int]:
    """Return a split within `limit`, which is known to allow one.

    Each GPU in turn takes an even share of the time that is left, within what those after it can take, and leaves
    a block to each of them where it can.
    """
    num_gpus, num_blocks = len(room), len(costs)
    backwards = [row[::-1] for row in seconds[::-1]]
    filled = fill_in_order(costs[::-1], room[::-1], seconds=backwards, limit=limit)
    assert filled is not None
    # From which block on each GPU and those after it can take everything; the last one has to.
    reach = [*(num_blocks - end for end in filled[::-1]), num_blocks]
    ends: list[int] = []
    start = 0
    for gpu in range(num_gpus):
        after = num_gpus - gpu - 1
        [furthest] = _fill(costs[start:], room[gpu : gpu + 1], [seconds[gpu][start:]], limit)
        least = max(start, reach[gpu + 1])
        most = max(least, min(start + furthest, num_blocks - after))
        least = max(least, min(start + 1, most))
        share = sum(seconds[gpu][start:]) / (after + 1)
        start = min(range(least, most + 1), key=lambda end: (abs(sum(seconds[gpu][start:end]) - share), -end))
        ends.append(start)
    return ends


def _slowest(ends: Sequence[int], seconds: Sequence[Sequence[float]]) -> float:
    return max(sum(seconds[gpu][start:end]) for gpu, (start, end) in enumerate(pairwise([0, *ends])))


def has_room(ends: Sequence[int], costs: Sequence[int], room: Sequence[int]) -> bool:
    """Return whether runs of blocks that end at `ends` fit; a GPU without a block needs no room."""
    runs = zip(pairwise([0, *ends]), room, strict=True)
    return all(start == end or sum(costs[start:end]) <= here for (start, end), here in runs)
