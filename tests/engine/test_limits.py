"""How many prompt tokens a step reads follows the load, and nobody waits for ever to be read."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.limits import (
    SMALLEST_CHUNK,
    Limits,
    prompt_tokens_for,
)
from evaluation.toolbench.inference.engine.paged.pages import PagePool
from evaluation.toolbench.inference.engine.paged.scheduler import Scheduler
from evaluation.toolbench.inference.engine.paged.sequence import Sequence
from evaluation.toolbench.inference.engine.paged.step_sizes import DECODE_ROWS, mixed_decode_rows, mixed_tokens
from evaluation.toolbench.inference.engine.request import GenerationRequest
from tests.helpers.scheduler import PretendDevice

LARGEST_STEP = DECODE_ROWS[-1]
PROMPT_PER_DRAWN = 4.2  # tokens, in the agents' workload
DRAWING_STEPS = 34 / 36  # of a generation: it draws 34 tokens, and reads its prompt in two steps


@given(st.integers(0, 2 * LARGEST_STEP), st.integers(1, 8))
def test_more_conversations_never_get_fewer_prompt_tokens_and_always_some(running, num_batches):
    tokens = prompt_tokens_for(running, num_batches)
    assert SMALLEST_CHUNK <= tokens <= prompt_tokens_for(running + 1, num_batches)


@given(st.integers(1, LARGEST_STEP), st.integers(1, 8))
def test_those_who_decode_do_not_outrun_the_reading_of_what_comes_next(running, num_batches):
    decoding = DRAWING_STEPS * running / num_batches  # the others read
    assert prompt_tokens_for(running, num_batches) >= PROMPT_PER_DRAWN * decoding


@given(st.integers(1, LARGEST_STEP), st.integers(2, 8))
def test_a_batch_of_several_reads_about_what_its_rows_need(running, num_batches):
    rows = -(-_table_entry(running) // num_batches)
    needed = PROMPT_PER_DRAWN * rows + mixed_decode_rows(rows)
    whole_step = prompt_tokens_for(running, num_batches) + mixed_decode_rows(rows)
    assert whole_step <= max(256, 512 if 256 < needed < 512 else mixed_tokens(math.ceil(needed)))
    assert mixed_tokens(whole_step) != 320


def _table_entry(running: int) -> int:
    """The numbers of sequences at which the prompt tokens change."""
    return next(size for size in (64, 96, 128, 192, 256) if running <= size)


@given(st.integers(1, LARGEST_STEP), st.integers(1, 8))
def test_a_full_step_has_a_size_that_graphs_are_captured_for(running, num_batches):
    rows = mixed_decode_rows(-(-running // num_batches))
    assert mixed_tokens(rows + prompt_tokens_for(running, num_batches)) is not None


@given(st.integers(1, LARGEST_STEP), st.integers(1, LARGEST_STEP), st.integers(1, 4))
def test_the_load_never_takes_a_step_beyond_its_limits(max_running, running, num_batches):
    limits = Limits.of(num_batches, max_running=max_running, max_prefill_tokens=None)
    tokens = limits.prompt_tokens(running, num_batches, 0)
    assert tokens <= limits.max_prefill_tokens
    halved = limits.halved()
    if halved is not None:
        assert halved.prompt_tokens(running, num_batches, 0) <= tokens


def test_a_number_that_was_asked_for_is_what_every_step_reads():
    limits = Limits.of(1, max_running=200, max_prefill_tokens=100)
    assert [limits.prompt_tokens(running, 1, 0) for running in (1, 64, 200)] == [100, 100, 100]


@given(st.integers(64, 2048), st.integers(0, 300))
def test_a_step_of_a_given_size_is_full_of_prompts_beside_whatever_decodes(step_tokens, num_decoding):
    limits = Limits.of(1, max_running=320, max_prefill_tokens=None, step_tokens=step_tokens)
    rows = mixed_decode_rows(num_decoding) or num_decoding
    tokens = limits.prompt_tokens(320, 1, num_decoding)
    assert rows + tokens == max(step_tokens, rows + SMALLEST_CHUNK)


@given(
    st.lists(st.integers(2, 90), min_size=1, max_size=12),
    st.integers(1, 3),
    st.sampled_from(
        [
            Limits(12, 40, 2),
            Limits(12, SMALLEST_CHUNK, 1),
            Limits(12, 900, 16, follows_load=True),
            Limits(12, 48, 16, counts_decodes=True),
        ]
    ),
)
def test_every_prompt_is_read_whatever_the_others_are(prompts, num_batches, limits):
    scheduler = Scheduler(PagePool(300, 4), limits, num_batches)
    device = PretendDevice(scheduler, vocab_size=7)
    for number, length in enumerate(prompts):
        scheduler.add(Sequence(number, GenerationRequest([number] * length, 3, TokenSet([])), 3))
    most_steps = num_batches * (sum(prompts) + 3 * len(prompts))
    for step in range(most_steps):
        plan = scheduler.plan(step % num_batches)
        if plan is not None:
            tokens = device.run(plan)
            scheduler.note_launch(plan)
            scheduler.take_tokens(plan, tokens)
    assert not scheduler.has_work


def test_a_batch_with_long_prompts_gets_fewer_new_ones():
    scheduler = Scheduler(PagePool(1000, 4), Limits(8, 64), num_batches=2)
    for number, length in enumerate([900, 10, 10, 10]):
        scheduler.add(Sequence(number, GenerationRequest([number] * length, 3, TokenSet([])), 3))
    scheduler.plan(0)
    by_number = {sequence.number: sequence.batch for sequence in scheduler.running}
    assert [by_number[number] for number in range(4)] == [0, 1, 1, 1]
