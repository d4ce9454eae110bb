"""What a server's reply means to the model: the observation, and the status code of the step.

Pure: HTTP status and body in, `Reply` out. The codes and texts are ToolBench's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal

from evaluation.toolbench.http_client.exchange import retry_after_s
from evaluation.toolbench.json_input import JsonError, parse_object

SUCCESS = 0
TIMEOUT = 5
REQUEST_INVALID = 12
CODE_OF_ERROR = {
    "API not working error...": 6,
    "Unauthorized error...": 7,
    "Unsubscribed error...": 8,
    "Too many requests error...": 9,
    "Rate limit per minute error...": 10,
    "Message error...": 11,
}
_RATE_LIMIT_CODES = (9, 10)

RetryReason = Literal["failure", "rate limit", "unreachable"]


@dataclass(frozen=True, slots=True)
class Reply:
    """`observation` is what the model reads; `retry` says why asking again may help, None that it will not."""

    observation: str
    code: int
    retry: RetryReason | None = None
    retry_after_s: float | None = None  # the server's own wish


def _failure(text: str, code: int, retry: RetryReason | None = None, retry_after_s: float | None = None) -> Reply:
    return Reply(json.dumps({"error": text, "response": ""}), code, retry, retry_after_s)


TIMED_OUT = _failure("Timeout error...", TIMEOUT)
# ToolBench has no text for a connection that is lost (its run ends there); this is ours.
CONNECTION_LOST = _failure("Connection error...", REQUEST_INVALID, retry="failure")
UNREACHABLE = replace(CONNECTION_LOST, retry="unreachable")  # in the end no observation, but an error
NOT_AN_ANSWER = _failure("request invalid, data error", REQUEST_INVALID)


def read_reply(status: int, body: bytes, *, retry_after: str | None = None, is_replay: bool = False) -> Reply:
    """Judge one HTTP reply.

    `retry_after` is the header of that name. `is_replay` says that the same request would get the same
    recorded answer again, so a recorded rate limit is not worth waiting for.
    """
    if status != HTTPStatus.OK:
        may_pass = status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        return _failure(
            f"request invalid, data error. status_code={status}",
            REQUEST_INVALID,
            retry="failure" if may_pass else None,
            retry_after_s=retry_after_s(retry_after),
        )
    try:
        answer = parse_object(body)
    except JsonError:
        return NOT_AN_ANSWER
    if "error" not in answer:
        return NOT_AN_ANSWER
    error, observation = answer["error"], json.dumps(answer)
    code = CODE_OF_ERROR.get(error, SUCCESS) if isinstance(error, str) else SUCCESS
    return Reply(observation, code, "rate limit" if code in _RATE_LIMIT_CODES and not is_replay else None)
