"""Turns an answer file into the form that ToolEval's judges read. Pure.

A converted answer is a chain of nodes `{"role", "message", "next": [at most one node]}`: system, user, then tool
calls with their responses, and assistant texts. Where the search left several tries or branches, one is drawn
by lot, from the query's id alone: no other file, order or thread changes it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.finish import FINISH_NAME

Record = Mapping[str, Any]
Step = tuple[str, Any]  # role, message

_MOST_NODES = 400  # each is two levels of nesting, of which Python reads a thousand less the calls that it is in
_SKIPPED_ROLES = ("system", "user", "function")


def convert(record: Any, query_id: str, method: str) -> dict[str, Any]:
    """Return the converted answer of one answer file. DataError, in a few words, for a file that is not a whole
    answer.
    """
    try:
        generation = record["answer_generation"]
        query, final_answer = _text(generation["query"]), _text(generation["final_answer"])
        tools = generation.get("function", [])
        steps = list(_steps(record, random.Random(query_id), method))
    except (KeyError, IndexError) as error:
        raise DataError(f"lacks {error}") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise DataError(f"is not an answer file: {error}") from error
    nodes: list[Step] = [("system", ""), ("user", ""), *steps]
    if len(nodes) > _MOST_NODES:
        raise DataError(f"has {len(nodes)} steps, and judges' files nest no more than {_MOST_NODES}")
    return {
        "query": query,
        "available_tools": tools,
        "answer": {
            "method": method,
            "total_steps": len(nodes),
            "final_answer": final_answer,
            "answer_details": _chain(nodes),
        },
    }


def _steps(record: Record, lots: random.Random, method: str) -> Iterator[Step]:
    generation = record["answer_generation"]
    if generation["valid_data"]:
        return _steps_of_messages(generation["train_messages"][-1][2:])
    if "cot" in method.lower():
        tries = record.get("trys")
        if not isinstance(tries, list):
            raise DataError(f"has no tries: it is not of the method {method}")
        if not tries:
            raise DataError("has an empty list of tries")
        return _steps_of_nodes(tries[_draw(lots, len(tries))]["chain"])
    if not isinstance(record.get("tree"), Mapping):
        raise DataError(f"has no tree: it is not of the method {method}")
    return _steps_of_nodes(_path(record["tree"]["tree"], lots))


def _steps_of_messages(messages: Sequence[Record]) -> Iterator[Step]:
    """Yield the steps of a conversation: one for each call of a message; what it says beside them is dropped."""
    position = 0
    while position < len(messages):
        message = messages[position]
        position += 1
        calls = _calls(message)
        if message["role"] in _SKIPPED_ROLES:
            continue
        if message["role"] != "assistant":
            raise DataError(f"has a message of the role {message['role']!r} that answers no call")
        if not calls:
            yield "assistant", message.get("content") or ""
            continue
        replies = _replies(messages[position:], len(calls))
        position += len(replies)
        for number, (call_id, function) in enumerate(calls):
            name = _text(function["name"])
            response = "" if name == FINISH_NAME else _response(replies, call_id, number)
            yield "tool", {"name": name, "arguments": function["arguments"], "response": response}


def _calls(message: Record) -> list[tuple[Any, Record]]:
    """Return (id, function) of each call in a message."""
    if message.get("tool_calls"):
        return [(call.get("id"), call["function"]) for call in message["tool_calls"]]
    return [(None, message["function_call"])] if message.get("function_call") else []


def _replies(messages: Sequence[Record], num_calls: int) -> Sequence[Record]:
    """Return the messages that answer this many calls: whatever follows a single one, tool messages after several."""
    num = 0
    while num < min(num_calls, len(messages)) and messages[num]["role"] not in ("assistant", "system"):
        num += 1
    return messages[:num]


def _response(replies: Sequence[Record], call_id: Any, number: int) -> Any:
    """Return what the call returned: the reply with its id, else the one at its place."""
    named = [reply for reply in replies if call_id is not None and reply.get("tool_call_id") == call_id]
    if len(named) == 1:
        return named[0].get("content") or ""
    return (replies[number].get("content") or "") if number < len(replies) else ""


def _steps_of_nodes(nodes: Sequence[Record]) -> Iterator[Step]:
    """Yield the steps of a path through the search's tree: a thought, or an action with the input below it."""
    position = 0
    while position < len(nodes):
        kind, text = nodes[position]["node_type"], nodes[position]["description"]
        position += 1
        if kind == "Thought":
            yield "assistant", text
        elif kind == "Action":
            if position == len(nodes):
                raise DataError(f"ends with the action {text!r}, which has no input")
            call = nodes[position]
            position += 1
            yield "tool", {"name": text, "arguments": call["description"], "response": call.get("observation", "")}
        else:
            raise DataError(f"has a node of type {kind!r} where a thought or an action belongs")


def _path(root: Record, lots: random.Random) -> list[Record]:
    """Return the nodes from below the root to a leaf."""
    path = []
    node = root
    while node["children"]:
        node = node["children"][_draw(lots, len(node["children"]))]
        path.append(node)
    return path


def _draw(lots: random.Random, count: int) -> int:
    return lots.randrange(count) if count > 1 else 0


def _chain(nodes: Sequence[Step]) -> list[dict[str, Any]]:
    chain: list[dict[str, Any]] = []
    for role, message in reversed(nodes):
        chain = [{"role": role, "message": message, "next": chain}]
    return chain


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"has a {type(value).__name__} where text belongs")
    return value
