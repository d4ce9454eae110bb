"""Holds ToolEval's questions to a judge: what is inserted into a prompt, which words may answer it. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evaluation.toolbench.inference.records.statuses import SOLVED, UNSOLVED, UNSURE
from evaluation.toolbench.tooleval.converted import ConvertedAnswer

CHECK_ANSWER = "check_answer_status"
PARSE_ANSWER = "parse_answer_status"
SELECT_BETTER = "select_better_answer"

REASON_KEY = "reason"
_REASON_DESCRIPTION = "Why, in a few words."
_INDEX_DESCRIPTION = "0 for the first answer, 1 for the second."

Subjects = tuple[ConvertedAnswer, ...]


@dataclass(frozen=True)
class Check:
    """Holds a question and the function that a judge calls to answer it.

    `key` is the argument with the verdict, one of `words`. `values` gives what is inserted into the prompt.
    """

    name: str
    key: str
    words: tuple[str, ...]
    values: Callable[[Subjects], Mapping[str, str]]

    @property
    def has_numbers(self) -> bool:
        """Return whether the words are numbers, and so the argument's values."""
        return all(word.isdigit() for word in self.words)

    def function(self, descriptions: Mapping[str, str], *, with_reason: bool) -> dict[str, Any]:
        """Return the function's JSON as ToolEval sends it. `descriptions` has the function's own and that of `key`."""
        verdict: dict[str, Any]
        if self.has_numbers:
            verdict = {"type": "number", "description": descriptions.get(self.key, _INDEX_DESCRIPTION)}
        else:
            verdict = {"type": "string", "enum": list(self.words)}
        properties: dict[str, Any] = {self.key: verdict}
        if with_reason:
            properties[REASON_KEY] = {"type": "string", "description": _REASON_DESCRIPTION}
        return {
            "name": self.name,
            "description": descriptions.get(self.name, _OWN_DESCRIPTIONS[self.name]),
            "parameters": {"type": "object", "properties": properties, "required": list(properties)},
        }

    def schema(self, *, with_reason: bool) -> dict[str, Any]:
        """Return a JSON schema that only an answer with one of the words meets."""
        words: list[Any] = [int(word) for word in self.words] if self.has_numbers else list(self.words)
        properties: dict[str, Any] = {self.key: {"type": "integer" if self.has_numbers else "string", "enum": words}}
        if with_reason:
            properties[REASON_KEY] = {"type": "string"}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


def _query_and_final_answer(subjects: Subjects) -> dict[str, str]:
    [answer] = subjects
    return {"query": answer.query, "answer": answer.final_answer}


def _query_and_details(subjects: Subjects) -> dict[str, str]:
    [answer] = subjects
    return {"query": answer.query, "answer": json.dumps(answer.answer)}


def _query_and_both(subjects: Subjects) -> dict[str, str]:
    first, second = subjects
    return {"query": first.query, "answer_0": json.dumps(first.answer), "answer_1": json.dumps(second.answer)}


_STATUS_WORDS = (UNSURE, UNSOLVED, SOLVED)
CHECKS = {
    check.name: check
    for check in (
        Check(CHECK_ANSWER, "answer_status", _STATUS_WORDS, _query_and_final_answer),
        Check(PARSE_ANSWER, "answer_status", _STATUS_WORDS, _query_and_details),
        Check(SELECT_BETTER, "index", ("0", "1"), _query_and_both),
    )
}

_OWN_DESCRIPTIONS = {
    CHECK_ANSWER: "Report whether the answer solves the query.",
    PARSE_ANSWER: "Report whether the answer, with the calls that led to it, solves the query.",
    SELECT_BETTER: "Report which of the two answers is better, whatever their order.",
}
