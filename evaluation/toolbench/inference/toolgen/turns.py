"""Turns a conversation's messages into the turns that the model was trained to read.

Messages are OpenAI's (system, user, assistant with one tool call, tool). A model of this kind sees an
assistant message as five turns: its thought, the request for an action, the action, the tool's
documentation, the arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from evaluation.toolbench.inference.toolgen.catalog import INVALID_ACTION, ToolCatalog
from evaluation.toolbench.inference.toolgen.chat_format import ChatFormat, Conversation
from evaluation.toolbench.inference.toolgen.prompts import (
    DESCRIPTIONS_HINT,
    DOCUMENTATION_HINT,
    NO_DOCUMENTATION,
    RETRIEVAL_HINT,
    PromptStyle,
)


class Turn(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


def history_turns(
    messages: Sequence[Mapping[str, Any]],
    catalog: ToolCatalog,
    layout: PromptStyle,
    *,
    system_prompt: str,
    relevant_actions: Sequence[str] | None = None,
) -> list[Turn]:
    """Return the turns of a conversation so far.

    A system message stands for `system_prompt`, whatever it says. With `relevant_actions` the first
    question is followed by these actions and their descriptions, as if the model had retrieved them. Roles
    that no model of this kind knows are a ValueError.
    """
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "system":
            turns.append({"role": "system", "content": system_prompt})
        elif role in ("user", "tool", "function"):
            turns.append({"role": "user", "content": message["content"]})
            if role == "user" and index == 1 and relevant_actions is not None:
                turns += retrieval_turns(relevant_actions, catalog)
        elif role == "assistant":
            turns += _assistant_turns(message, catalog, layout)
        else:
            raise ValueError(f"message {index} has the role {role!r}: use system, user, assistant, tool or function")
    return turns


def plain_turns(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """Return the messages' own texts, their system message included, for a chat that calls no tool."""
    roles: dict[str, Literal["system", "user", "assistant"]] = {"system": "system", "assistant": "assistant"}
    return [{"role": roles.get(m["role"], "user"), "content": m["content"] or ""} for m in messages]


def retrieval_turns(actions: Sequence[str], catalog: ToolCatalog) -> list[Turn]:
    """Return the exchange in which the model names the actions that fit a question and is told what they do."""
    descriptions = []
    for action in actions:
        entry = catalog.documentation.get(action)
        description = entry["description"] if isinstance(entry, dict) else NO_DOCUMENTATION
        descriptions.append({"name": action, "description": description})
    return [
        {"role": "user", "content": RETRIEVAL_HINT},
        {"role": "assistant", "content": "".join(actions)},
        {"role": "user", "content": DESCRIPTIONS_HINT + json.dumps(descriptions)},
    ]


def documentation_text(action: str, catalog: ToolCatalog) -> str:
    """Return what the model is shown before it writes an action's arguments."""
    return f"{DOCUMENTATION_HINT}{catalog.documentation.get(action, NO_DOCUMENTATION)}"


def conversation_of(turns: Sequence[Turn], form: ChatFormat) -> Conversation:
    """Return the turns in a chat format. An assistant turn without text is left out: written down, it would read
    like a turn that the model is still to fill in."""
    conversation = Conversation(form)
    roles = {"user": form.user, "assistant": form.assistant}
    for turn in turns:
        if turn["role"] == "system":
            conversation.set_system_message(turn["content"])
        elif turn["role"] == "user" or turn["content"].strip():
            conversation.append_message(roles[turn["role"]], turn["content"])
    return conversation


def _assistant_turns(message: Mapping[str, Any], catalog: ToolCatalog, layout: PromptStyle) -> list[Turn]:
    thought = message.get("content")
    calls = message.get("tool_calls")
    turns: list[Turn] = []
    if thought is not None:
        turns.append({"role": "assistant", "content": thought})
    if not calls:
        return turns
    if thought is not None or layout.always_hints:
        turns.append({"role": "user", "content": layout.history_hint})
    function = calls[0]["function"]
    # A name that no action stands for was made up by the model, or comes from a catalog other than this one.
    action = catalog.action_of(function["name"]) or INVALID_ACTION
    return [
        *turns,
        {"role": "assistant", "content": action},
        {"role": "user", "content": documentation_text(action, catalog)},
        {"role": "assistant", "content": function["arguments"]},
    ]
