"""Paired tests: exact where they say so, fair to both sides, and the same every time."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.run_report.paired import agreement, bootstrap_interval, mcnemar, paired_means

small = st.integers(0, 400)
values = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60)


@pytest.mark.parametrize(("left_only", "right_only"), list(product(range(5), range(5))))
def test_the_p_value_is_the_share_of_coin_throws_that_are_as_uneven(left_only, right_only):
    throws = list(product((0, 1), repeat=left_only + right_only))
    uneven = abs(left_only - right_only)
    as_uneven = sum(abs(2 * sum(throw) - len(throw)) >= uneven for throw in throws)
    assert mcnemar(left_only, right_only) == float(Fraction(as_uneven, len(throws)))


@given(small, small)
def test_the_p_value_favours_no_side_and_falls_as_one_side_gains(few, many):
    few, many = sorted((few, many))
    assert 0 < mcnemar(few, many) == mcnemar(many, few) <= 1
    assert mcnemar(few, many + 1) <= mcnemar(few, many)


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_every_query_is_in_one_of_four_groups(pairs):
    found = agreement([left for left, _ in pairs], [right for _, right in pairs])
    assert found.both + found.left_only + found.right_only + found.neither == len(pairs)
    assert found.both + found.left_only == sum(left for left, _ in pairs)


@given(values)
def test_an_interval_is_within_the_values_and_the_same_every_time(observed):
    low, high = bootstrap_interval(observed, num_resamples=200)
    slack = 1e-9 * max(map(abs, observed))  # a mean of equal numbers may differ in its last digit
    assert min(observed) - slack <= low <= high <= max(observed) + slack
    assert (low, high) == bootstrap_interval(observed, num_resamples=200)


@given(st.lists(st.tuples(st.integers(0, 50) | st.none(), st.integers(0, 50) | st.none()), min_size=1, max_size=40))
def test_exchanging_the_runs_turns_the_interval_round(pairs):
    one, other = ([pair[side] for pair in pairs] for side in (0, 1))
    there, back = paired_means(one, other), paired_means(other, one)
    if there is None:
        assert back is None
        return
    assert (there.left, there.right, there.num_queries) == (back.right, back.left, back.num_queries)
    if there.low is not None:
        assert (there.low, there.high) == (pytest.approx(-back.high), pytest.approx(-back.low))


def test_an_interval_has_the_width_of_the_normal_one_where_that_holds():
    sample = np.random.default_rng(7).normal(3.0, 2.0, 765)
    low, high = bootstrap_interval(sample)
    error = sample.std() / len(sample) ** 0.5
    assert (low, high) == pytest.approx((sample.mean() - 1.96 * error, sample.mean() + 1.96 * error), abs=0.1 * error)


def test_one_query_has_means_and_no_interval():
    found = paired_means([1.0, None], [4.0, 2.0])
    assert (found.num_queries, found.left, found.right, found.low, found.high) == (1, 1.0, 4.0, None, None)
    assert paired_means([None], [1.0]) is None
