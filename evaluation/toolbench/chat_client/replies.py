"""Reads a chat completion. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evaluation.toolbench.http_client.server_replies import Failure, error_words

_THOUGHTS = re.compile(r"^.*?</think>", re.DOTALL)  # of models that think aloud first


@dataclass(frozen=True, slots=True)
class Said:
    """Holds one reply of a chat server. `called` are the arguments of its function call, None without one; `is_cut`
    says that it ended at the longest length."""

    text: str
    called: str | None
    served_model: str
    prompt_tokens: int
    completion_tokens: int
    is_cut: bool = False

    @property
    def conclusion(self) -> str:
        """Return the text without what the model thought aloud before."""
        return _THOUGHTS.sub("", self.text).strip()


def read_chat_reply(reply: Mapping[str, Any]) -> Said:
    """Return the parts of a chat completion that matter. Failure for an object that is something else."""
    if "error" in reply:  # a server that dies after it has sent its status says so in the body
        raise Failure("failed", f"answered with an error: {error_words(reply)}")
    try:
        message = reply["choices"][0]["message"]
        calls = message.get("tool_calls") or ()
        function = calls[0]["function"] if calls else message.get("function_call")
        usage = reply.get("usage") or {}
        content = message.get("content") or ""
        return Said(
            text=content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in content),
            called=None if not function else _as_text(function.get("arguments")),
            served_model=str(reply.get("model") or ""),
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            is_cut=reply["choices"][0].get("finish_reason") == "length",
        )
    except (LookupError, TypeError, AttributeError):
        raise Failure("failed", "answered with JSON that is not a chat completion") from None


def _as_text(arguments: Any) -> str:
    """Return arguments as text: they are JSON text, but some servers send the object itself."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
