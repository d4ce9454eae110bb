"""Splits of a row of blocks, against all splits that there are."""

from __future__ import annotations

from itertools import combinations_with_replacement, pairwise

from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.multi_gpu.splits import (
    evenly_in_order,
    fastest_in_order,
    fill_in_order,
    has_room,
    over_all_in_order,
)

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


def slowest(ends, seconds):
    return max(sum(row[start:end]) for row, (start, end) in zip(seconds, pairwise([0, *ends]), strict=True))


@given(rows_of_blocks, rooms)
def test_filling_in_order_finds_a_split_whenever_there_is_one(costs, room):
    ends = fill_in_order(costs, room)
    assert (ends is not None) == bool(list(all_splits(costs, room)))
    assert ends is None or has_room(ends, costs, room)


@given(rows_of_blocks, rooms, st.data())
def test_no_split_that_fits_has_a_faster_slowest_gpu(costs, room, data):
    seconds = [[data.draw(st.floats(0.001, 9)) for _ in costs] for _ in room]

    splits = list(all_splits(costs, room))
    if splits and room:
        ends = fastest_in_order(costs, room, seconds)
        assert has_room(ends, costs, room)
        best = min(slowest(each, seconds) for each in splits)
        assert slowest(ends, seconds) <= best + 1e-6
        even = evenly_in_order(costs, room, seconds)
        assert has_room(even, costs, room)
        assert slowest(even, seconds) <= best * 1.011 + 1e-6


@given(st.integers(1, 16), st.lists(st.floats(0, 9), min_size=16, max_size=40))
def test_an_even_split_leaves_no_gpu_without_work(num_gpus, times):
    ends = evenly_in_order([0] * len(times), [0] * num_gpus, [times] * num_gpus)
    assert all(start < end for start, end in pairwise([0, *ends]))


@given(st.integers(1, 16), st.lists(st.floats(0.01, 9), min_size=16, max_size=40), st.data())
def test_no_gpu_stays_empty_however_slow_it_is_when_all_are_asked_for(num_gpus, times, data):
    slowness = data.draw(st.lists(st.floats(1, 100), min_size=num_gpus, max_size=num_gpus))
    ends = over_all_in_order([0] * len(times), [0] * num_gpus, [[slow * each for each in times] for slow in slowness])
    assert all(start < end for start, end in pairwise([0, *ends]))
    assert ends[-1] == len(times)
