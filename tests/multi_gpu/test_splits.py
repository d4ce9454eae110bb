"""Splits of a row of blocks, against all splits that there are."""

from __future__ import annotations

from itertools import combinations_with_replacement, pairwise

from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.multi_gpu.splits import fastest_in_order, fill_in_order, has_room

rows_of_blocks = st.lists(st.integers(0, 9), max_size=8)
rooms = st.lists(st.integers(-3, 20), max_size=4)


def all_splits(costs, room):
    """Those that fit."""
    for ends in map(list, combinations_with_replacement(range(len(costs) + 1), len(room))):
        runs = list(pairwise([0, *ends]))
        fits = all(start == end or sum(costs[start:end]) <= here for (start, end), here in zip(runs, room, strict=True))
        assert has_room(ends, costs, room) == fits
        if fits and [0, *ends][-1] == len(costs):
            yield ends


@given(rows_of_blocks, rooms)
def test_filling_in_order_finds_a_split_whenever_there_is_one(costs, room):
    ends = fill_in_order(costs, room)
    assert (ends is not None) == bool(list(all_splits(costs, room)))
    assert ends is None or has_room(ends, costs, room)


@given(rows_of_blocks, rooms, st.data())
def test_no_split_that_fits_has_a_faster_slowest_gpu(costs, room, data):
    seconds = [[data.draw(st.floats(0.001, 9)) for _ in costs] for _ in room]

    def slowest(ends):
        return max(sum(row[start:end]) for row, (start, end) in zip(seconds, pairwise([0, *ends]), strict=True))

    splits = list(all_splits(costs, room))
    if splits and room:
        ends = fastest_in_order(costs, room, seconds)
        assert has_room(ends, costs, room)
        assert slowest(ends) <= min(map(slowest, splits)) + 1e-6
