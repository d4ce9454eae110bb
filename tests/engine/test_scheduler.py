"""The schedule of the paged engine, against a pretended device that remembers what every page holds."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.limits import Limits
from evaluation.toolbench.inference.engine.paged.pages import PagePool
from evaluation.toolbench.inference.engine.paged.plan import Plan
from evaluation.toolbench.inference.engine.paged.prefix import Prefix, PrefixStore
from evaluation.toolbench.inference.engine.paged.scheduler import Scheduler
from evaluation.toolbench.inference.engine.paged.sequence import Sequence
from evaluation.toolbench.inference.engine.request import GenerationRequest
from tests.helpers.scheduler import PretendDevice, assert_pages_add_up, next_token

VOCAB_SIZE = 7  # few, so that prompts often begin alike
STOP = TokenSet([3])


def expected_tokens(prompt: list[int], max_new_tokens: int) -> list[int]:
    """What one sequence alone generates, with nothing kept."""
    ids = list(prompt)
    while len(ids) - len(prompt) < max_new_tokens:
        ids.append(next_token(ids, VOCAB_SIZE))
        if ids[-1] in STOP:
            break
    return ids[len(prompt) :]


def sequence(number: int, prompt: list[int], max_new_tokens: int = 4, conversation: str | None = None) -> Sequence:
    return Sequence(
        number, GenerationRequest(prompt, max_new_tokens, STOP, conversation_id=conversation), max_new_tokens
    )


def step(scheduler: Scheduler, device: PretendDevice) -> tuple[Plan, list[Sequence]]:
    """One step, read at once; returns it and the sequences that ended with it."""
    plan = scheduler.plan()
    assert plan is not None
    tokens = device.run(plan)
    scheduler.note_launch(plan)
    return plan, scheduler.take_tokens(plan, tokens)


def run_all(scheduler: Scheduler, device: PretendDevice) -> list[Sequence]:
    """Step until nothing is left; returns the sequences in the order in which they ended."""
    ended = []
    while scheduler.has_work:
        ended += step(scheduler, device)[1]
    return ended


@settings(max_examples=150)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from([(1, 24), (2, 14), (4, 8), (8, 4)]),
    st.booleans(),
    st.sampled_from([Limits(), Limits(3, 5, 2), Limits(1, 1, 1), Limits(6, 33, 3)]),
    st.sampled_from([1, 1, 2, 3]),
)
def test_every_request_ends_with_its_own_tokens_and_no_page_is_lost(
    rng: random.Random, pool_size, overlap, limits, num_batches
):
    page_size, num_pages = pool_size
    scheduler = Scheduler(PagePool(num_pages, page_size), limits, num_batches)
    device = PretendDevice(scheduler, VOCAB_SIZE)
    capacity = num_pages * page_size
    histories: dict[str, list[int]] = {f"c{i}": [] for i in range(4)}
    expected: dict[Sequence, list[int]] = {}
    dropped: set[Sequence] = set()
    in_flight: deque[tuple[Plan, list[int]]] = deque()
    plan: Plan | None = None
    to_come = rng.randint(1, 25)
    number = idle_steps = batch = 0
    while to_come or scheduler.has_work or in_flight:
        if to_come and rng.random() < 0.5:
            to_come -= 1
            conversation = rng.choice([None, *histories])
            start = histories.get(conversation, [])
            # Mostly the conversation goes on; sometimes it takes another branch, or begins anew.
            kept = start[: rng.choice([len(start), len(start), rng.randint(0, len(start))])]
            prompt = (kept + [rng.randrange(VOCAB_SIZE) for _ in range(rng.randint(1, 9))])[: capacity - 1]
            tokens = min(rng.randint(1, 9), capacity - len(prompt))
            new = sequence(number, prompt, tokens, conversation)
            number += 1
            expected[new] = expected_tokens(prompt, tokens)
            if conversation is not None:
                histories[conversation] = prompt + expected[new]
            scheduler.add(new)
        event = rng.random()
        if event < 0.04 and scheduler.has_work:
            victim = rng.choice(scheduler.running + scheduler.waiting)
            scheduler.drop(victim)
            dropped.add(victim)
        elif event < 0.08:
            scheduler.end_conversation(rng.choice(list(histories)))
        elif event < 0.10 and plan is not None:
            scheduler.shrink(plan)
        batch = (batch + 1) % num_batches
        plan = scheduler.plan(batch)
        assert_pages_add_up(scheduler)
        is_launched = False
        if plan is not None:
            assert {row.sequence.batch for row in plan.rows} == {batch}
            assert sum(row.count for row in plan.prefill) <= limits.max_prefill_tokens
            assert len(plan.prefill) <= limits.max_prefill_rows
            assert len(plan.rows) <= limits.max_running
            assert {row.count for row in plan.decode} <= {1}
            tokens = device.run(plan)
            if rng.random() < 0.05:
                scheduler.run_alone(plan)  # the launch failed after it had written: it is planned again
            else:
                scheduler.note_launch(plan)
                in_flight.append((plan, tokens))
                is_launched = True
        while in_flight and (len(in_flight) > num_batches or not (overlap and is_launched)):
            scheduler.take_tokens(*in_flight.popleft())
            if overlap:
                break
        assert_pages_add_up(scheduler)
        idle_steps = 0 if plan is not None or not scheduler.has_work else idle_steps + 1
        assert idle_steps < 3 * num_batches, "work is left but no step is planned"
    for each, tokens in expected.items():
        if each not in dropped:
            assert list(each.result().token_ids) == tokens
    for conversation in histories:
        scheduler.end_conversation(conversation)
    assert scheduler.pool.num_free == num_pages


def test_tokens_count_as_they_are_taken_and_not_when_their_generation_ends():
    scheduler = Scheduler(PagePool(8, 4), Limits())
    device = PretendDevice(scheduler, VOCAB_SIZE)
    one = Sequence(0, GenerationRequest([1, 2], 3, TokenSet([])), 3)
    scheduler.add(one)
    for count in (1, 2, 3):
        step(scheduler, device)
        assert (scheduler.counts.generated_tokens, one.is_over) == (count, count == 3)


def test_the_youngest_gives_way_when_pages_are_short():
    scheduler = Scheduler(PagePool(7, 4), Limits())
    device = PretendDevice(scheduler, VOCAB_SIZE)
    old, young = (Sequence(n, GenerationRequest([n] * 6, 14, TokenSet([])), 14) for n in range(2))
    scheduler.add(old)
    scheduler.add(young)
    ended = run_all(scheduler, device)
    assert ended == [old, young]
    assert scheduler.counts.preemptions == 1
    assert all(each.finish_reason == "length" for each in ended)


def test_a_conversations_next_prompt_reads_only_what_is_new():
    scheduler = Scheduler(PagePool(50, 8), Limits())
    device = PretendDevice(scheduler, VOCAB_SIZE)
    prompt = [0, 1, 2, 4, 5] * 5
    scheduler.add(sequence(0, prompt, 6, "c"))
    [first] = run_all(scheduler, device)
    history = first.token_ids
    read_before = scheduler.counts.prefill_tokens
    scheduler.add(sequence(1, [*history, 6, 6], 3, "c"))
    run_all(scheduler, device)
    # Two new tokens, and the last generated one, whose keys and values nobody had needed.
    assert scheduler.counts.prefill_tokens - read_before == 3


def test_prompts_that_arrive_together_read_their_common_beginning_once():
    scheduler = Scheduler(PagePool(100, 4), Limits(max_prefill_tokens=64))
    common = [1, 2, 4, 5, 6, 0, 1, 1, 2, 2, 4, 4]
    for number in range(8):
        scheduler.add(sequence(number, [*common, number % 3, number], 2))
    ended = run_all(scheduler, PretendDevice(scheduler, VOCAB_SIZE))
    assert len(ended) == 8
    assert scheduler.counts.prefill_tokens == len(common) + 8 * 2


def test_a_branch_that_turns_back_shares_the_pages_before_the_fork():
    scheduler = Scheduler(PagePool(100, 4), Limits())
    device = PretendDevice(scheduler, VOCAB_SIZE)
    trunk = [1, 2, 4, 5, 6, 0, 1, 1, 2, 2, 4]
    scheduler.add(sequence(0, [*trunk, 5, 5, 5, 5, 5, 5], 2, "c"))
    run_all(scheduler, device)
    before = scheduler.counts.prefill_tokens
    scheduler.add(sequence(1, [*trunk, 6, 6], 2, "c"))  # the fork lies inside the third page
    run_all(scheduler, device)
    assert scheduler.counts.prefill_tokens - before == 2
    before = scheduler.counts.prefill_tokens
    scheduler.add(sequence(2, [*trunk, 5, 5, 5, 5, 5, 5, 6], 2, "c"))  # back on the first branch
    run_all(scheduler, device)
    assert scheduler.counts.prefill_tokens - before <= 17 + 1 - 8


def test_a_page_that_others_still_read_is_copied_before_a_branch_writes_into_it():
    scheduler = Scheduler(PagePool(100, 4), Limits())
    device = PretendDevice(scheduler, VOCAB_SIZE)
    history = [1, 2, 4, 5, 6, 0, 1, 1, 2, 2, 4, 4]
    scheduler.add(sequence(0, [*history, 5], 1, "c"))
    run_all(scheduler, device)
    reader = Sequence(1, GenerationRequest([*history, 6, 6], 20, TokenSet([])), 20)
    scheduler.add(reader)
    step(scheduler, device)
    scheduler.add(sequence(2, [*history[:10], 0, 0], 3, "c"))  # turns back into the third page, which `reader` holds
    plan, _ = step(scheduler, device)
    assert len(plan.copies) == 1
    assert {row.sequence.number: row.count for row in plan.rows} == {1: 1, 2: 2}
    run_all(scheduler, device)
    assert len(reader.token_ids) == 14 + 20
    scheduler.end_conversation("c")
    assert scheduler.pool.num_free == 100


def test_a_copy_whose_step_fails_is_made_with_the_next_one():
    scheduler = Scheduler(PagePool(100, 4), Limits())
    device = PretendDevice(scheduler, VOCAB_SIZE)
    history = [1, 2, 4, 5, 6, 0, 1, 1, 2, 2, 4, 4]
    scheduler.add(sequence(0, [*history, 5], 1, "c"))
    run_all(scheduler, device)
    reader = Sequence(1, GenerationRequest([*history, 6, 6], 5, TokenSet([])), 5)
    scheduler.add(reader)
    step(scheduler, device)
    scheduler.add(sequence(2, [*history[:10], 0, 0], 3, "c"))
    failed = scheduler.plan()
    assert len(failed.copies) == 1
    scheduler.drop(reader)  # the other holder of the page is gone meanwhile
    assert_pages_add_up(scheduler)
    plan, _ = step(scheduler, device)
    assert plan.copies == failed.copies
    run_all(scheduler, device)
    scheduler.end_conversation("c")
    assert scheduler.pool.num_free == 100


def test_a_long_prompt_does_not_hold_up_short_ones_or_running_ones():
    scheduler = Scheduler(PagePool(200, 4), Limits(max_prefill_tokens=64))
    device = PretendDevice(scheduler, VOCAB_SIZE)
    running = sequence(0, [1, 2], 50)
    scheduler.add(running)
    step(scheduler, device)
    assert not running.is_over
    scheduler.add(sequence(1, [5] * 500, 2))
    scheduler.add(sequence(2, [4, 2, 1], 1))
    plan, ended = step(scheduler, device)
    assert {row.sequence.number: row.count for row in plan.rows} == {0: 1, 1: 61, 2: 3}
    assert ended[-1].number == 2


def test_idle_conversations_make_way_before_running_ones_do():
    scheduler = Scheduler(PagePool(6, 4), Limits())
    device = PretendDevice(scheduler, VOCAB_SIZE)
    scheduler.add(sequence(0, [1] * 8, 1, "old"))
    run_all(scheduler, device)
    assert len(scheduler.store) == 1
    scheduler.add(sequence(1, [2] * 20, 3, "new"))
    [ended] = run_all(scheduler, device)
    assert ended.number == 1
    assert (scheduler.counts.evictions, scheduler.counts.preemptions) == (1, 0)


def test_idle_conversations_that_are_wanted_again_make_way_last_and_the_last_wanted_first():
    store = PrefixStore(PagePool(8, 4))
    for name in "abcd":
        store.keep(name, [], Prefix())
    left = []
    while store.evict_one(spare="b", wanted=["a", "b", "c"]):
        left.append({name for name in "abcd" if name in store._idle})
    assert left == [{"a", "b", "c"}, {"a", "b"}, {"b"}]


def test_conversations_that_are_spared_for_a_while_are_those_that_have_just_answered_or_are_wanted():
    store = PrefixStore(PagePool(8, 4))
    for now, name in enumerate("abcd"):
        store.keep(name, [], Prefix(), now=now)
    while store.evict_one(spare="a", wanted=["b"], before=3):
        pass
    assert [name for name in "abcd" if store.holds(name)] == ["a", "b", "d"]


def almost_full() -> tuple[Scheduler, PretendDevice, Sequence]:
    """Two sequences run, a conversation has just answered, and of the other pages there are no 25."""
    scheduler = Scheduler(PagePool(38, 16), Limits())
    device = PretendDevice(scheduler, VOCAB_SIZE)
    for number in (0, 1):
        scheduler.add(Sequence(number, GenerationRequest([number] * 8, 150, TokenSet([])), 150))
    answered = sequence(2, [2] * 160, 1, "answered")
    scheduler.add(answered)
    while not scheduler.store.holds("answered"):
        step(scheduler, device)
    return scheduler, device, answered


def test_a_newcomer_waits_a_while_for_pages_of_a_conversation_that_has_just_answered():
    scheduler, device, _ = almost_full()
    newcomer = sequence(3, [4] * 400, 1)
    scheduler.add(newcomer)
    for _ in range(20):
        step(scheduler, device)
    assert scheduler.store.holds("answered")
    assert not newcomer.has_begun
    for _ in range(80):
        step(scheduler, device)
    assert newcomer.has_begun
    assert not scheduler.store.holds("answered")


def test_one_that_has_its_pages_overtakes_one_that_waits_for_some_and_others_do_not():
    scheduler, device, answered = almost_full()
    large, small = sequence(3, [4] * 400, 1), sequence(4, [5] * 4, 1)
    back = sequence(5, [*answered.token_ids, 1], 1, "answered")
    for newcomer in (large, small, back):
        scheduler.add(newcomer)
    step(scheduler, device)
    assert [newcomer.has_begun for newcomer in (large, small, back)] == [False, False, True]


def test_after_a_failed_step_its_sequences_run_one_at_a_time():
    scheduler = Scheduler(PagePool(20, 4), Limits())
    device = PretendDevice(scheduler, VOCAB_SIZE)
    for number in range(3):
        scheduler.add(sequence(number, [number, 1], 3))
    assert scheduler.run_alone(scheduler.plan())
    served = []
    for _ in range(3):
        plan, _ = step(scheduler, device)
        assert len(plan.rows) == 1
        served.append(plan.rows[0].sequence.number)
    assert served == [0, 1, 2]
    assert len(scheduler.plan().rows) == len(scheduler.running) > 1


@pytest.mark.parametrize("limits", [Limits(64, 1024, 16), Limits(3, 100, 16), Limits(1, 8, 1)])
def test_limits_shrink_until_they_cannot(limits):
    sizes = []
    while limits is not None:
        sizes.append((limits.max_running, limits.max_prefill_tokens))
        limits = limits.halved()
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1][0] == 1
    assert sizes[-1][1] <= 32
