"""Builds the request of a question, in each way of constraining a judge to the allowed words. Pure.

tool     a call of the check's function, as ToolEval asks for it
schema   JSON that meets a schema (response_format)
choice   one of the words and nothing else (vLLM's structured outputs)
text     no constraint: the word is read from the text
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from evaluation.toolbench.tooleval.judge.checks import REASON_KEY, Check

Constraint = Literal["tool", "schema", "choice", "text"]
CONSTRAINTS: tuple[Constraint, ...] = get_args(Constraint)  # from the one that ToolEval uses to none


def chat_request(
    prompt: str,
    check: Check,
    constraint: Constraint,
    *,
    model: str,
    seed: int,
    temperature: float,
    max_tokens: int,
    descriptions: Mapping[str, str],
    with_reason: bool,
) -> dict[str, Any]:
    """Return the body of one request. A prompt for a function gets a sentence on the form where there is no
    function.
    """
    request: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt + _form(check, constraint, with_reason)}],
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
    }
    if constraint == "tool":
        request["tool_choice"] = {"type": "function", "function": {"name": check.name}}
        request["tools"] = [{"type": "function", "function": check.function(descriptions, with_reason=with_reason)}]
    elif constraint == "schema":
        schema = {"name": check.name, "schema": check.schema(with_reason=with_reason), "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif constraint == "choice":
        request["structured_outputs"] = {"choice": list(check.words)}  # vLLM 0.11 and later
        request["guided_choice"] = list(check.words)  # before
    return request


def _form(check: Check, constraint: Constraint, with_reason: bool) -> str:
    words = ", ".join(check.words[:-1]) + f" or {check.words[-1]}"
    if constraint == "schema":
        reason = f' and "{REASON_KEY}", why,' if with_reason else ""
        return f'\nReply with one JSON object that has "{check.key}", which is {words},{reason} and nothing else.'
    if constraint == "choice":
        return f"\nReply with one word, {words}, and nothing else."
    if constraint == "text":
        reason = " Say why on the lines after it." if with_reason else ""
        return f"\nReply with `{check.key}: ` and one of {words} on the first line.{reason}"
    return ""
