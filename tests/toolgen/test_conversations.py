"""The engine benchmark's workload: the lengths that results are quoted for, and the same tokens every time."""

from __future__ import annotations

import itertools
import random

import pytest

from benchmarks.conversations import (
    NEW_PROMPT_TOKENS_PER_QUERY,
    TOKENS_PER_QUERY,
    make_conversation,
    mean_context,
    play,
)


def play_out(layout: str, number: int = 0) -> list[tuple]:
    """Each generation of a conversation with the tokens that a random model gave it."""
    model = random.Random(5)
    turns = []

    def generate(asked):
        turns.append((asked, tuple(model.randrange(1000) for _ in range(asked.max_new_tokens))))
        return turns[-1][1]

    play(make_conversation(number, vocab_size=1000, layout=layout), generate)
    return turns


def common(a: tuple, b: tuple) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def test_a_query_is_five_steps_of_three_generations_with_the_quoted_lengths():
    turns = play_out("trained")
    assert [asked.kind for asked, _ in turns] == ["thought", "action", "arguments"] * 5
    assert [asked.max_new_tokens for asked, _ in turns] == [60, 2, 40] * 5
    assert [len(asked.prompt_ids) for asked, _ in turns[:4]] == [550, 618, 820, 1116]
    assert sum(len(given) for _, given in turns) == TOKENS_PER_QUERY == 510


def test_in_the_trained_layout_every_prompt_continues_the_last_one():
    turns = play_out("trained")
    new = len(turns[0][0].prompt_ids) - 450
    for (before, given), (asked, _) in itertools.pairwise(turns):
        known = before.prompt_ids + given
        assert asked.prompt_ids[: len(known)] == known
        new += len(asked.prompt_ids) - len(known)
    assert new == NEW_PROMPT_TOKENS_PER_QUERY == 2164


def test_in_the_upstream_layout_a_step_is_read_again_from_its_hint_on():
    turns = play_out("upstream")
    for index in range(3, 15, 3):
        (before, given), (asked, _) = turns[index - 1], turns[index]
        known = before.prompt_ids + given
        assert len(known) - common(known, asked.prompt_ids) == pytest.approx(8 + 2 + 200 + 40, abs=3)
        assert len(asked.prompt_ids) == len(known) + 256


def test_conversations_share_the_system_prompt_and_nothing_else():
    first, second = (make_conversation(number, vocab_size=10**6) for number in (0, 1))
    assert first == make_conversation(0, vocab_size=10**6)
    assert common(first.opening, second.opening) == 450
    assert first.conversation_id != second.conversation_id
    assert not {step.observation for step in first.steps} & {step.observation for step in second.steps}


def test_the_mean_context_is_that_of_the_decoded_tokens():
    contexts = [len(asked.prompt_ids) + i + 1 for asked, given in play_out("trained") for i in range(len(given))]
    assert mean_context() == sum(contexts) / len(contexts)
