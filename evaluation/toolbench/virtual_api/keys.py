"""Decides under which key a call's arguments are recorded, and which recorded key means the same ones.

A record is keyed by `str()` of the parsed arguments, so equal arguments in another order or with a
number written as text have another key. `KeyIndex` finds those.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from typing import Any

from evaluation.toolbench.json_input import parse_json


def parse_tool_input(tool_input: str | dict[str, Any]) -> Any:
    """Return the arguments as a value: an object as it is, a text as the JSON it holds, "" as {}.

    Raises ValueError for text that is not JSON, or nested too deeply to be handled.
    """
    if not isinstance(tool_input, str):
        return tool_input
    if tool_input == "":
        return {}
    return parse_json(tool_input)


def record_key(arguments: Any) -> str:
    """Return the key under which an answer to `arguments` is recorded.

    >>> record_key({"city": "Paris", "days": 1, "metric": True})
    "{'city': 'Paris', 'days': 1, 'metric': True}"
    """
    return str(arguments)


class KeyIndex:
    """Finds the recorded key that means given arguments. Of several, the first recorded wins.

    First choice: the same value whatever the order of its keys (1, 1.0 and True stay different).
    Second choice: the same value once all leaves are text, so 1 finds '1'.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._key_of_value: dict[str, str] = {}
        self._key_of_text: dict[str, str] = {}
        for key in keys:
            # Only objects and arrays have an order or leaves; a scalar's str() says all there is.
            if not key.startswith(("{", "[")):
                continue
            try:
                value = ast.literal_eval(key)
                self._key_of_value.setdefault(_canonical(value), key)
                self._key_of_text.setdefault(_canonical(_with_text_leaves(value)), key)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                continue  # not the str() of a JSON value: only its exact text can find it

    def find(self, arguments: Any) -> str | None:
        """Return the recorded key, or None."""
        try:
            same_value = self._key_of_value.get(_canonical(arguments))
            return same_value or self._key_of_text.get(_canonical(_with_text_leaves(arguments)))
        except RecursionError:
            return None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _with_text_leaves(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_text_leaves(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_text_leaves(item) for item in value]
    return str(value)
