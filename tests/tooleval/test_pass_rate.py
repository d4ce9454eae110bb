"""The numbers: ToolEval's, and the one that a crashed run cannot raise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.tooleval.pass_rate import QueryScore, pass_rate

WORDS = st.sampled_from(["Solved", "Unsure", "Unsolved", None])


def queries(verdicts, missing=0):
    answered = [QueryScore(str(n), "judged", tuple(words)) for n, words in enumerate(verdicts)]
    return [*answered, *(QueryScore(f"m{n}", "missing") for n in range(missing))]


def test_verdicts_of_a_single_repeat_have_no_error_over_repeats():
    rate = pass_rate(queries([["Solved"], ["Unsolved"]]), 1)
    assert (rate.solve_rate, rate.std_dev, rate.stderr_repeats) == (50, 0, None)
    assert rate.stderr_queries == pytest.approx(50)


def test_a_single_query_has_no_error_over_queries():
    assert pass_rate(queries([["Solved", "Unsure"]]), 2).stderr_queries is None


def test_no_answer_at_all_is_no_rate_and_zero_of_all():
    rate = pass_rate(queries([], missing=3), 4)
    assert (rate.solve_rate, rate.std_dev, rate.solve_rate_all) == (None, None, 0)


@given(st.lists(st.lists(WORDS, min_size=3, max_size=3), min_size=1, max_size=8), st.integers(0, 5))
def test_missing_queries_lower_the_number_over_all_and_leave_toolevals(verdicts, missing):
    without, with_missing = pass_rate(queries(verdicts), 3), pass_rate(queries(verdicts, missing), 3)
    assert with_missing.solve_rate == without.solve_rate
    share = len(verdicts) / (len(verdicts) + missing)
    assert with_missing.solve_rate_all == pytest.approx(without.solve_rate_all * share)
    assert without.solve_rate_all == pytest.approx(without.solve_rate)
    assert 0 <= with_missing.solve_rate_all <= 100
