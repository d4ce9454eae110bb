"""Builds the chat request of a call: the format in which StableToolBench asks its MirrorAPI models. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

TEMPERATURE = 0.0
MAX_TOKENS = 2048

# MirrorAPI-Cache was trained on standardized API names, MirrorAPI on those of the tool files.
_WITH_STANDARD_NAMES = "mirrorapi-cache"
_KEY_ARGUMENT = "toolbench_key"  # never shown to the model


def chat_request(
    system_prompt: str,
    document: Mapping[str, Any],
    standard_api_name: str,
    arguments: Mapping[str, Any],
    *,
    model: str,
    seed: int,
) -> dict[str, Any]:
    """Return the body of the request for a call. `arguments` are canonical (see below)."""
    if _WITH_STANDARD_NAMES in model.lower():
        document = {**document, "api_name": standard_api_name}
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": system_prompt},
            {"role": "user", "content": f"API doc:\n{dict(document)}\n\nRequest:\n{dict(arguments)}"},
        ],
        "temperature": TEMPERATURE,
        "max_tokens": MAX_TOKENS,
        "seed": seed,
    }


def canonical_arguments(arguments: Any) -> dict[str, Any] | None:
    """Return the arguments with all keys in order, so that equal ones make one request; None unless an object.

    >>> canonical_arguments({"b": [{"y": 1, "x": 2}], "a": 0, "toolbench_key": "k"})
    {'a': 0, 'b': [{'x': 2, 'y': 1}]}
    """
    if not isinstance(arguments, dict):
        return None
    return {key: _sorted(arguments[key]) for key in sorted(arguments) if key != _KEY_ARGUMENT}


def request_digest(request: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything that decides the reply."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value
