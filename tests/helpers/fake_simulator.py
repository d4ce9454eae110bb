"""A simulator over HTTP that makes up replies, with the knobs of the fake judge, and servers that ask it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.helpers.fake_judge import FakeJudge


def echo(prompt: str) -> str:
    """A reply that tells what was asked for."""
    return json.dumps({"error": "", "response": {"made_up_for": prompt.partition("Request:\n")[2]}})


@dataclass
class FakeSimulator(FakeJudge):
    """`replies` says what is said to the user's message; `finish_reason` "length" is a reply that was cut."""

    model: str = "fake-mirror"
    replies: Callable[[str], str] = echo
    finish_reason: str = "stop"

    def completion(self, body: Mapping[str, Any], way: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.replies(body["messages"][-1]["content"])}
        return {
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": self.finish_reason, "message": message}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10},
        }
