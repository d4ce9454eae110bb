"""Reads the model's arguments for the function `Finish`, and lists the status codes that a call can end with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from evaluation.toolbench.json_input import JsonError, parse_json

FINISH_NAME = "Finish"
GIVE_ANSWER = "give_answer"
GIVE_UP = "give_up_and_restart"

# Status codes of a call, beside an API's own (virtual_api/replies.py).
UNKNOWN_FUNCTION = 1
BAD_ARGUMENTS = 2
FINAL_ANSWER = 3
GAVE_UP = 4

# The lenient reading of arguments that are not JSON, most often because quotes inside the answer are not escaped.
_RETURN_TYPE = re.compile(r'"return_type"\s*:\s*"([^"]*)("?)')
_FINAL_ANSWER = re.compile(r'"final_answer"\s*:\s*"')
_NEXT_KEY = re.compile(r'"\s*,\s*"return_type"\s*:')

ABSENT = object()  # marks a missing argument; a JSON null is present


@dataclass(frozen=True)
class FinishCall:
    """Holds the two arguments, which may be any JSON value, or `ABSENT`."""

    return_type: Any = ABSENT
    final_answer: Any = ABSENT

    def outcome(self) -> tuple[str, int]:
        """Return (observation, status code). The first texts are not JSON; models were trained to read them so."""
        if self.return_type is ABSENT:
            return '{error:"must have "return_type""}', BAD_ARGUMENTS
        if self.return_type == GIVE_UP:
            return '{"response":"chose to give up and restart"}', GAVE_UP
        if self.return_type != GIVE_ANSWER:
            return '{error:""return_type" is not a valid choice"}', BAD_ARGUMENTS
        if self.final_answer is ABSENT:
            return '{error:"must have "final_answer""}', BAD_ARGUMENTS
        return '{"response":"successfully giving the final answer."}', FINAL_ANSWER


def parse_finish(arguments: str) -> FinishCall:
    """Read the arguments of a call of Finish: as JSON, else leniently.

    >>> parse_finish('{"return_type":"give_answer","final_answer":"He said "hi"."}').final_answer
    'He said "hi".'
    """
    try:
        values = parse_json(arguments, strict=False)
    except JsonError:
        return _parse_leniently(arguments)
    if not isinstance(values, dict):
        return FinishCall()
    return FinishCall(values.get("return_type", ABSENT), values.get("final_answer", ABSENT))


def _parse_leniently(text: str) -> FinishCall:
    return_type = _RETURN_TYPE.search(text)
    answer_start = _FINAL_ANSWER.search(text)
    return FinishCall(
        _closed(*return_type.groups()) if return_type else ABSENT,
        _without_closing(text[answer_start.end() :]) if answer_start else ABSENT,
    )


def _closed(value: str, quote: str) -> str | None:
    """Return a value that its quote ends; None where generation stopped before it, and nobody knows what it was."""
    return value if quote else None


def _without_closing(text: str) -> str:
    """Cut `text` at the quote that ends the value; keep all of it when generation stopped before that quote."""
    next_key = _NEXT_KEY.search(text)
    if next_key is not None:
        return text[: next_key.start()]
    value = text.rstrip().removesuffix("}").rstrip()
    return value.removesuffix('"') if value.endswith('"') else text
