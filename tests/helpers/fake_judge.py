"""A judge over HTTP that says what it is told to, and knobs for what real ones do."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.helpers.fake_generation_server import Answer, Stopped, error_answer, json_answer

Verdicts = Callable[[str, str], Mapping[str, Any]]  # (check, prompt) -> arguments of the function


def always(**arguments: Any) -> Verdicts:
    return lambda check, prompt: arguments


def solved(check: str, prompt: str) -> dict[str, Any]:
    return {"index": 0} if check.startswith("select") else {"answer_status": "Solved", "reason": "looks right"}


@dataclass
class FakeJudge:
    """`upcoming` answers the next questions in turn, before the judge does; None stands for the judge.

    `refuses` are ways of constraining it that get status 400. `says` replaces calls and JSON by a text.
    """

    verdicts: Verdicts = solved
    model: str = "fake-judge"
    served_as: str | None = None  # in replies, where that differs
    api_key: str = ""
    refuses: frozenset[str] = frozenset()
    says: str | None = None
    lists_models: bool = True
    delay_s: float = 0.0
    trickle_s: float = 0.0  # between single bytes of a body
    dies_after: int | None = None  # questions; the next one is not answered, and nothing is from then on
    upcoming: deque[Answer | None] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    replied: int = 0
    most_at_once: int = 0
    url: str = ""
    _at_once: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def answer(self, method: str, path: str, key: str, body: Mapping[str, Any]) -> Answer:
        if self.api_key and key != f"Bearer {self.api_key}":
            return error_answer(401, "Incorrect API key provided")
        if (method, path) == ("GET", "/v1/models"):
            return (
                json_answer({"data": [{"id": self.model}]}) if self.lists_models else error_answer(404, "no such page")
            )
        if (method, path) != ("POST", "/v1/chat/completions"):
            return error_answer(404, "no such page")
        with self._lock:
            if len(self.requests) == self.dies_after:
                raise Stopped
            self.requests.append(dict(body))
            planned = self.upcoming.popleft() if self.upcoming else None
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self.delay_s)
        with self._lock:
            self._at_once -= 1
            self.replied += 1
        return planned or self._judge(body)

    def _judge(self, body: Mapping[str, Any]) -> Answer:
        if body["model"] != self.model:
            return error_answer(404, f"The model `{body['model']}` does not exist.")
        way = way_of(body)
        if way in self.refuses:
            return error_answer(400, f"{way} is not supported")
        return json_answer(self.completion(body, way))

    def completion(self, body: Mapping[str, Any], way: str) -> dict[str, Any]:
        """What the judge says, as a server words it."""
        check, prompt = check_of(body), body["messages"][0]["content"]
        values = self.verdicts(check, prompt)
        text, calls = self.says, None
        if text is None and way == "tool":
            calls = [{"type": "function", "function": {"name": check, "arguments": json.dumps(values)}}]
        elif text is None and way == "schema":
            text = json.dumps(values)
        elif text is None:
            word = next(iter(values.values()))
            text = str(word) if way == "choice" else f"{next(iter(values))}: {word}\nbecause."
        message = {"role": "assistant", "content": text, "tool_calls": calls}
        return {
            "model": self.served_as or body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10},
        }


def way_of(body: Mapping[str, Any]) -> str:
    """How a request constrains the judge."""
    for key, way in (("tools", "tool"), ("response_format", "schema"), ("structured_outputs", "choice")):
        if key in body:
            return way
    return "text"


def check_of(body: Mapping[str, Any]) -> str:
    """Which of ToolEval's checks a request is about; for ways that do not name it, by its prompt."""
    if "tools" in body:
        return str(body["tool_choice"]["function"]["name"])
    if "response_format" in body:
        return str(body["response_format"]["json_schema"]["name"])
    prompt = body["messages"][0]["content"]
    if re.search(r"Answer 1:|Answer_1:", prompt):
        return "select_better_answer"
    return "parse_answer_status" if "answer_details" in prompt else "check_answer_status"
