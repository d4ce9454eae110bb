"""Conversations are admitted by what they use: as fast as the best fixed number, nothing lost, nothing starved."""

from __future__ import annotations

import contextlib
import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.multi_gpu.expectation import Expectation
from evaluation.toolbench.inference.replicas.admission import Admission
from evaluation.toolbench.inference.replicas.gate import Gate
from evaluation.toolbench.inference.replicas.limits import QueryClock, TimeLimits
from evaluation.toolbench.inference.replicas.watched_engine import Watch, watched_query
from tests.helpers.admission import EXPECTED, MAX_TOKENS, SCALE, Outcome, Query, Simulation
from tests.helpers.engine import tiny_llama

KV_TOKENS = 320_000  # as on three 24 GB cards beside the 8B model
MOST = 128


def steps_of(kind: str, count: int) -> list[int]:
    """Steps of each of `count` queries; the agent workload's have five."""
    rng = random.Random(0)
    if kind == "short":
        return [rng.choice([1, 1, 2, 2, 3]) for _ in range(count)]
    if kind == "real":
        return [max(1, min(12, round(rng.gauss(5, 2)))) for _ in range(count)]
    if kind == "heavy-tailed":
        return [min(13, int(1.5 * rng.paretovariate(1.1))) for _ in range(count)]
    assert kind == "adversarial"  # short ones let many in, then come the longest that there may be
    return [1] * (count // 3) + [13] * (count // 3) + [1] * (count - 2 * (count // 3))


def simulate(steps: list[int], number: int | None, kv_tokens: int = KV_TOKENS) -> tuple[Outcome, Simulation]:
    """With a fixed number of conversations, or, for None, as many as `Admission` lets in."""
    random.seed(0)
    simulation = Simulation([Query(str(index), count) for index, count in enumerate(steps)], kv_tokens, most=MOST)
    if number is not None:
        return simulation.run(lambda _: number), simulation
    admission = Admission(kv_tokens // SCALE, MOST, MAX_TOKENS, EXPECTED)
    simulation.on_length, simulation.on_end = admission.grew, admission.ended

    def decide(running: Simulation) -> int:
        counts = running.scheduler.counts
        return admission.number(
            len(running.in_flight),
            used_tokens=running.used_tokens,
            repeated_pauses=counts.repeated_preemptions,
        )

    return simulation.run(decide), simulation


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "best_numbers"),  # of all numbers, those around the best one
    [
        ("short", (112, 128)),
        pytest.param("real", (96, 112, 128), marks=pytest.mark.long),
        pytest.param("heavy-tailed", (96, 112), marks=pytest.mark.long),
        pytest.param("adversarial", (40, 48), marks=pytest.mark.long),
    ],
)
def test_it_answers_as_fast_as_the_best_fixed_number(kind, best_numbers):
    steps = steps_of(kind, 765)
    best = max(simulate(steps, number)[0].rate for number in best_numbers)
    assert simulate(steps, None)[0].rate >= 0.95 * best


@pytest.mark.slow
def test_short_queries_in_a_small_cache_cost_no_more_than_the_first_second():
    """The number begins with what is expected, a third of what fits, and is there when the first queries have ended."""
    steps = steps_of("short", 2500)
    assert simulate(steps, None, 100_000)[0].rate >= 0.95 * simulate(steps, MOST, 100_000)[0].rate


@pytest.mark.slow
def test_a_small_cache_is_filled_and_not_fought_over():
    """A third of the room: 52 at once give most of what can be had, and 64 push each other out."""
    steps = steps_of("real", 500)
    best = simulate(steps, 52, 100_000)[0].rate
    assert simulate(steps, 64, 100_000)[0].rate < 0.9 * best
    assert simulate(steps, None, 100_000)[0].rate >= 0.95 * best


@settings(max_examples=12)
@given(st.lists(st.integers(1, 13), min_size=1, max_size=60), st.integers(12_000, 80_000))
def test_nothing_is_lost_and_nothing_starves(steps, kv_tokens):
    outcome, simulation = simulate(steps, None, kv_tokens)
    assert sorted(outcome.finished, key=int) == [str(index) for index in range(len(steps))]
    assert simulation.used_tokens == 0
    assert all(1 <= number <= MOST for number in outcome.numbers)
    # What is held back are the youngest: a query is overtaken only by those that run beside it.
    most = max(outcome.numbers)
    assert all(abs(place - int(name)) <= sum(steps) + most for place, name in enumerate(outcome.finished))


@given(st.data())
def test_whatever_it_is_told_there_is_a_number(data):
    admission = Admission(data.draw(st.integers(1, 10**6)), MOST, data.draw(st.integers(1, 10**5)))
    for _ in range(data.draw(st.integers(1, 20))):
        query = data.draw(st.integers(0, 30))
        if data.draw(st.booleans()):
            admission.grew(query, data.draw(st.integers(1, 10**5)))
        else:
            admission.ended(query)
        number = admission.number(
            data.draw(st.integers(0, 200)),
            used_tokens=data.draw(st.integers(0, 10**6)),
            repeated_pauses=data.draw(st.integers(0, 3)),
        )
        assert 1 <= number <= MOST


def number_of(admission: Admission, in_flight: int, pauses: int = 0) -> int:
    return admission.number(in_flight, used_tokens=in_flight * 1000, repeated_pauses=pauses)


def test_it_starts_from_an_expectation_and_learns_from_queries_that_end():
    admission = Admission(100_000, MOST, 8192)
    first = number_of(admission, 0)
    assert 100_000 // Expectation().end_tokens < first < 100_000 // Expectation().start_tokens
    for query in range(100):
        admission.grew(query, 600)
        admission.grew(query, 1200)
        admission.ended(query)
    assert number_of(admission, 0) > 1.5 * first


def test_conversations_longer_than_expected_hold_the_youngest_back():
    admission = Admission(100_000, MOST, 8192)
    for query in range(40):
        admission.grew(query, 550)
    assert number_of(admission, 40) >= 30
    for query in range(40):
        admission.grew(query, 5000)
    assert 10 <= number_of(admission, 40) <= 100_000 // 5000


def test_sequences_that_are_paused_again_and_again_lower_the_number_for_a_while():
    admission = Admission(10**6, MOST, 8192)
    assert number_of(admission, 10) == MOST
    assert number_of(admission, 10, pauses=1) < MOST
    lowered = number_of(admission, 10, pauses=2)
    assert number_of(admission, 10, pauses=2) == lowered
    for query in range(10_000):
        admission.grew(query, 600)
        admission.ended(query)
    assert number_of(admission, 10, pauses=2) == MOST


# ---- the gate


class Numbers:
    """An admission that says what it is told to say."""

    def __init__(self, number: int) -> None:
        self.says = number
        self.lengths: dict[object, int] = {}

    def number(self, in_flight: int, *, used_tokens: int, repeated_pauses: int) -> int:
        return self.says

    def grew(self, query: object, num_tokens: int) -> None:
        self.lengths[query] = num_tokens

    def ended(self, query: object) -> None:
        self.lengths.pop(query, None)


def passing(gate: Gate, query: str) -> threading.Thread:
    thread = threading.Thread(target=gate.enter, args=(query,), daemon=True)
    thread.start()
    return thread


def is_held(thread: threading.Thread) -> bool:
    thread.join(0.1)
    return thread.is_alive()


def test_the_youngest_wait_until_an_older_one_is_over():
    gate = Gate(Numbers(2), lambda: (0, 0))
    assert gate.enter("a") + gate.enter("b") < 5
    third = passing(gate, "c")
    assert is_held(third)
    gate.enter("a")  # the oldest go on all the time
    gate.leave("a")
    third.join(30)
    assert not third.is_alive()


def test_a_number_that_falls_holds_back_who_has_generated_already_and_one_that_rises_lets_on():
    admission = Numbers(3)
    gate = Gate(admission, lambda: (0, 0))
    for query in "abc":
        gate.enter(query)
    admission.says = 1
    gate.look(3)
    held = [passing(gate, "b"), passing(gate, "c")]
    assert all(map(is_held, held))
    admission.says = 3
    gate.look(3)
    for thread in held:
        thread.join(30)
        assert not thread.is_alive()


def test_a_run_that_is_stopped_holds_nothing_back():
    gate = Gate(Numbers(1), lambda: (0, 0))
    gate.enter("a")
    held = passing(gate, "b")
    assert is_held(held)
    gate.open()
    held.join(30)
    assert not held.is_alive()


def test_the_time_at_the_gate_is_not_the_querys():
    clock = QueryClock(TimeLimits(query_s=100.0, step_s=50.0))
    time.sleep(0.01)
    clock.hold(1000.0)
    assert clock.tightest()[0] > 50.0
    clock.check_query()


def test_queries_on_a_real_engine_with_little_room_all_come_to_their_end():
    """Twelve queries of up to 112 tokens, in a cache of 320."""
    watch = Watch()
    with contextlib.closing(PagedEngine(tiny_llama(), num_pages=20, page_size=16)) as engine:
        wrapped = watch.wrap(engine)
        first = watch.admit_by_use(MOST, 128)
        results: dict[int, int] = {}

        def run(number: int) -> None:
            watch.meter.item_began()
            with watched_query(TimeLimits()):
                tokens = [number + 1, *range(2, 10)]
                for _ in range(5):
                    request = GenerationRequest(tokens, 10, TokenSet([]), conversation_id=str(number))
                    tokens = [*tokens, *wrapped.generate(request).token_ids, *range(10)]
                wrapped.end_conversation(str(number))
            watch.meter.item_ended()
            results[number] = len(tokens)

        threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(12)]
        for thread in threads:
            thread.start()
        numbers = {first}
        while any(thread.is_alive() for thread in threads):
            numbers.add(watch.meter.beat().num_conversations)
            threads[0].join(0.02)
    assert results == dict.fromkeys(range(12), 9 + 5 * 20)
    assert min(numbers) < 12  # there was no room for all at once
    assert watch.meter.gate.look(0) >= 1
