"""Makes the workload of the engine benchmark: agent conversations of fixed lengths and random tokens. Pure.

A query is a conversation of 5 steps over a system prompt that all queries share and a question. A step is
three generations, each with the whole conversation so far as its prompt: a thought, then a hint is
appended; an action of one tool token and the end token, then the tool's documentation; arguments, then the
API's observation. Lengths are fixed and nothing ends a generation early, so that speed does not depend on
what a random model says.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["thought", "action", "arguments"]
Layout = Literal["trained", "upstream"]

STEPS = 5
SYSTEM_PROMPT, QUESTION = 450, 100  # tokens
HINT, DOCUMENTATION, OBSERVATION = 8, 200, 256  # appended after a thought, an action, the arguments
GENERATED: dict[Kind, int] = {"thought": 60, "action": 2, "arguments": 40}
KINDS: tuple[Kind, ...] = ("thought", "action", "arguments")
TOKENS_PER_QUERY = STEPS * sum(GENERATED.values())
# What nobody has read before: the shared system prompt and everything up to a prompt's last turn are cached.
NEW_PROMPT_TOKENS_PER_QUERY = QUESTION + STEPS * (HINT + DOCUMENTATION) + (STEPS - 1) * OBSERVATION


@dataclass(frozen=True, slots=True)
class Step:
    """Holds what others than the model say in a step. Once it is history its hint may be worded differently."""

    hint: tuple[int, ...]
    documentation: tuple[int, ...]
    observation: tuple[int, ...]
    hint_in_history: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Holds everything about a query that does not come from the model."""

    conversation_id: str
    opening: tuple[int, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Generation:
    """Says what the model is asked for."""

    kind: Kind
    prompt_ids: tuple[int, ...]
    max_new_tokens: int


def make_conversation(number: int, *, vocab_size: int, seed: int = 0, layout: Layout = "trained") -> Conversation:
    """Make conversation `number`; equal arguments give equal tokens, and equal seeds the same system prompt.

    In the layout "upstream" a step's hint is worded differently once it is history, as ToolGen's prompts are: what
    follows the hint must then be read again. In "trained" every prompt is the beginning of the next one.
    """
    shared = random.Random(f"system prompt {seed}")
    own = random.Random(f"conversation {number} {seed}")

    def tokens(count: int, source: random.Random = own) -> tuple[int, ...]:
        return tuple(source.randrange(vocab_size) for _ in range(count))

    opening = tokens(SYSTEM_PROMPT, shared) + tokens(QUESTION)
    steps = []
    for _ in range(STEPS):
        hint, documentation, observation, other_hint = map(tokens, (HINT, DOCUMENTATION, OBSERVATION, HINT))
        steps.append(Step(hint, documentation, observation, other_hint if layout == "upstream" else hint))
    return Conversation(f"{seed}-{number}", opening, tuple(steps))


def turns(conversation: Conversation) -> Generator[Generation, Sequence[int], None]:
    """Yields each generation of the conversation, and is sent the tokens that it brings."""
    history = conversation.opening
    for step in conversation.steps:
        thought = tuple((yield _ask("thought", history)))
        live = history + thought + step.hint
        action = tuple((yield _ask("action", live)))
        live += action + step.documentation
        arguments = tuple((yield _ask("arguments", live)))
        history += thought + step.hint_in_history + action + step.documentation + arguments + step.observation


def play(conversation: Conversation, generate: Callable[[Generation], Sequence[int]]) -> None:
    """Asks `generate` for each generation of the conversation, one after another."""
    asked = turns(conversation)
    with contextlib.suppress(StopIteration):
        generation = next(asked)
        while True:
            generation = asked.send(generate(generation))


def longest_conversation() -> int:
    """Return tokens of a whole query."""
    return SYSTEM_PROMPT + QUESTION + STEPS * (HINT + DOCUMENTATION + OBSERVATION) + TOKENS_PER_QUERY


def mean_context() -> float:
    """Return tokens of the conversation that a decoded token attends to, on average over a query."""
    seen: list[int] = []
    position = SYSTEM_PROMPT + QUESTION
    for _ in range(STEPS):
        for kind, appended in zip(KINDS, (HINT, DOCUMENTATION, OBSERVATION), strict=True):
            seen += range(position + 1, position + 1 + GENERATED[kind])
            position += GENERATED[kind] + appended
    return sum(seen) / len(seen)


def _ask(kind: Kind, prompt_ids: tuple[int, ...]) -> Generation:
    return Generation(kind, prompt_ids, GENERATED[kind])
