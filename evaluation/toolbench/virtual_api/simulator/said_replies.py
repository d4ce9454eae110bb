"""Reads an API's reply from what a model said. Pure.

MirrorAPI models put JSON into the text of "response" without escaping its quotes, so what is not JSON as a whole is
read by its two fields, from the first quote to the last.
"""

from __future__ import annotations

import re
from typing import Any

from evaluation.toolbench.chat_client.replies import Said
from evaluation.toolbench.json_input import JsonError, parse_object
from evaluation.toolbench.virtual_api.own_answers import Answer

_FIELDS = re.compile(r'"error"\s*:\s*"(.*?)"\s*,\s*"response"\s*:\s*"(.*)"\s*\}', re.DOTALL)
_FENCE = re.compile(r"^```\w*\s*|\s*```$")


def read_answer(said: Said) -> Answer | None:
    """Return {"error", "response"}; None where the model has not given both, or was cut short.

    >>> read_answer(Said('{"error": "", "response": "{"days": ["sunny"]}"}', None, "", 0, 0))
    {'error': '', 'response': '{"days": ["sunny"]}'}
    >>> read_answer(Said('{"error": "", "response": "{"days": ["sun', None, "", 0, 0))
    """
    if said.is_cut:
        return None
    text = _FENCE.sub("", said.conclusion)
    values = _object(text[text.find("{") : text.rfind("}") + 1])
    if values is None:
        fields = _FIELDS.fullmatch(text[text.find('"') :]) if text.startswith("{") else None
        values = {"error": fields[1], "response": fields[2]} if fields else {}
    if not {"error", "response"} <= values.keys():
        return None
    error, response = values["error"] or "", values["response"]
    if not isinstance(error, str) or (not error and response in ("", None)):
        return None
    return {"error": error, "response": "" if response is None else response}


def _object(text: str) -> dict[str, Any] | None:
    try:
        return parse_object(text)
    except JsonError:
        return None
