"""Answers the demo's queries with a model in memory, all of them at once, to see how training went.

The APIs are played by the expected trajectories: a right call gets its answer, a wrong one ends the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from evaluation.toolbench.demo.conversations import Renderer
from evaluation.toolbench.demo.samples import FINISH_TOKEN, DemoQuery, Turn, action_token, observation
from evaluation.toolbench.demo.score import Call, Verdict, final_answer_of, judge
from evaluation.toolbench.inference.toolgen.chat_format import Conversation
from evaluation.toolbench.inference.toolgen.prompts import PromptStyle

_MAX_NEW_TOKENS = 64  # a right text has half as many at most
_EXTRA_STEPS = 1  # beyond the expected ones, Finish included


@dataclass
class _Attempt:
    """Holds one query on its way."""

    query: DemoQuery
    turns: list[Turn] = field(default_factory=list)
    final_answer: str | None = None
    is_over: bool = False

    def take(self, thought: str, action: str, arguments: str) -> None:
        """Take one step of the model; the next observation is shown where the call is the expected one."""
        steps = self.query.trajectory.steps
        position = len(self.turns)
        if action == FINISH_TOKEN:
            self.final_answer = final_answer_of(arguments)
            self.is_over = True
            return
        answer = None
        if position < len(steps) and action_token(steps[position].call) == action:
            answer = observation(steps[position].answer)
        self.turns.append(Turn(thought, action, arguments, answer or ""))
        self.is_over = answer is None


def roll_out(
    model: Any,  # a causal LM on its device
    renderer: Renderer,
    queries: Sequence[DemoQuery],
    expected: dict[str, dict[str, Any]],
    layout: PromptStyle,
) -> list[Verdict]:
    """Return verdicts on the model's greedy answers, in the order of `queries`."""
    attempts = [_Attempt(query) for query in queries]
    most_steps = max(len(query.trajectory.steps) for query in queries) + 1 + _EXTRA_STEPS
    for _ in range(most_steps):
        running = [attempt for attempt in attempts if not attempt.is_over]
        if not running:
            break
        _step(model, renderer, running, layout)
    return [_verdict(attempt, renderer, expected) for attempt in attempts]


def _step(model: Any, renderer: Renderer, attempts: Sequence[_Attempt], layout: PromptStyle) -> None:
    conversations = [renderer.history(a.query.trajectory.question, a.turns, layout) for a in attempts]
    thoughts = _write(model, renderer, conversations)
    for conversation in conversations:
        renderer.ask_for_action(conversation, layout)
    actions = _write(model, renderer, conversations)
    for conversation, action in zip(conversations, actions, strict=True):
        renderer.show_documentation(conversation, action, layout)
    arguments = _write(model, renderer, conversations)
    for attempt, *step in zip(attempts, thoughts, actions, arguments, strict=True):
        attempt.take(*step)


def _write(model: Any, renderer: Renderer, conversations: Sequence[Conversation]) -> list[str]:
    """Let the model write the next turn of every conversation, and append it."""
    prompts = [renderer.prompt(conversation) for conversation in conversations]
    texts = [renderer.encoder.decode(ids) for ids in _generate(model, prompts)]
    for conversation, text in zip(conversations, texts, strict=True):
        conversation.append_message(conversation.format.assistant, text)
    return texts


def _generate(model: Any, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return greedy continuations without their end marker."""
    end, pad = model.config.eos_token_id, model.config.pad_token_id
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    with torch.inference_mode():
        output = model.generate(
            ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=_MAX_NEW_TOKENS,
            eos_token_id=end,
            pad_token_id=pad,
        )
    continuations = output[:, width:].tolist()
    return [row[: row.index(end)] if end in row else row for row in continuations]


def _verdict(attempt: _Attempt, renderer: Renderer, expected: dict[str, dict[str, Any]]) -> Verdict:
    query_id = str(attempt.query.query_id)
    calls: list[Call] = [(str(renderer.catalog.name_of(turn.action)), turn.arguments) for turn in attempt.turns]
    return judge(query_id, expected[query_id], calls, attempt.final_answer)
