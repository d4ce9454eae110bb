"""The retry policy decides by a clock that it is told: no test here waits."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.virtual_api.replies import CONNECTION_LOST, SUCCESS, UNREACHABLE, Reply
from evaluation.toolbench.virtual_api.retry_policy import CallRetries, CallRetryPolicy, NextStep

RATE_LIMITED = Reply("", 10, retry="rate limit")
END = NextStep(asks_again=False)


def retries_of(policy: CallRetryPolicy, *, deadline_s: float = 1e9) -> CallRetries:
    return CallRetries(policy, deadline_s, random.Random(0))


@given(
    reply=st.sampled_from([CONNECTION_LOST, RATE_LIMITED, UNREACHABLE]),
    num_retries=st.integers(0, 100_000),
    longest_wait_s=st.floats(0, 60),
)
def test_no_number_of_retries_makes_a_wait_longer_than_the_longest(reply, num_retries, longest_wait_s):
    policy = CallRetryPolicy(failures=10**6, rate_limits=10**6, longest_wait_s=longest_wait_s)
    wait_s = policy.wait_s(reply, num_retries, 0.0, random.Random(0))
    assert wait_s is not None
    assert 0 <= wait_s <= longest_wait_s


@pytest.mark.parametrize(("reply", "most"), [(CONNECTION_LOST, 4), (RATE_LIMITED, 2)])
def test_each_reason_has_its_own_number_of_retries(reply, most):
    retries = retries_of(CallRetryPolicy(failures=4, rate_limits=2))
    steps = [retries.after(reply, now_s=0.0) for _ in range(most + 1)]
    assert [step.asks_again for step in steps] == [True] * most + [False]
    assert retries.count == most


def test_a_call_with_an_answer_is_over():
    assert retries_of(CallRetryPolicy()).after(Reply("fine", SUCCESS), now_s=0.0) == END


def test_a_server_that_is_away_is_looked_for_as_long_as_was_said():
    retries = retries_of(CallRetryPolicy(unreachable_s=30))
    assert retries.after(UNREACHABLE, now_s=100.0).asks_again
    assert retries.after(UNREACHABLE, now_s=129.9).wait_s == pytest.approx(0.1)
    assert retries.after(UNREACHABLE, now_s=130.0) == END


@pytest.mark.parametrize("between", [CONNECTION_LOST, RATE_LIMITED])
def test_a_server_that_has_answered_meanwhile_is_looked_for_anew(between):
    """It is started, fails for a while, and is started again: the second time has its own `unreachable_s`."""
    retries = retries_of(CallRetryPolicy(unreachable_s=30))
    assert retries.after(UNREACHABLE, now_s=0.0).asks_again
    assert retries.after(between, now_s=25.0).asks_again
    assert retries.after(UNREACHABLE, now_s=40.0).asks_again
    assert retries.after(UNREACHABLE, now_s=69.9).asks_again
    assert retries.after(UNREACHABLE, now_s=70.0) == END


def test_what_ends_with_the_call_waits_to_its_end_for_a_server_that_is_away_only():
    policy = CallRetryPolicy(first_wait_s=8)
    assert retries_of(policy, deadline_s=1).after(UNREACHABLE, now_s=0.5) == NextStep(asks_again=False, wait_s=0.5)
    assert retries_of(policy, deadline_s=1).after(CONNECTION_LOST, now_s=0.5) == END
