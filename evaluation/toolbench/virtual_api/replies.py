"""Reads what a server's reply means to the model: the observation, and the status code of the step.

Pure: HTTP status and body in, `Reply` out. The codes and texts are ToolBench's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
SIMULATOR_FAILED = "x-simulator-failed"  # a header: why a call that the cache lacks has no simulated reply
_RATE_LIMIT_CODES = (9, 10)

CacheMatch = Literal["hit", "fuzzy", "simulated", "miss"]
_MATCHES: dict[str, CacheMatch] = {"HIT": "hit", "SIMULATED": "simulated", "MISS": "miss"}
RetryReason = Literal["failure", "rate limit", "unreachable"]


@dataclass(frozen=True, slots=True)
class Reply:
    """`observation` is what the model reads; `retry` says why asking again may help, None that it will not."""

    observation: str
    code: int
    retry: RetryReason | None = None
    retry_after_s: float | None = None  # the server's own wish
    cache: CacheMatch | None = None  # what the server's cache had for the call, if it says so


def _failure(text: str, code: int, retry: RetryReason | None = None, retry_after_s: float | None = None) -> Reply:
    return Reply(json.dumps({"error": text, "response": ""}), code, retry, retry_after_s)


TIMED_OUT = _failure("Timeout error...", TIMEOUT)
# ToolBench has no text for a connection that is lost (its run ends there); this is ours.
CONNECTION_LOST = _failure("Connection error...", REQUEST_INVALID, retry="failure")
UNREACHABLE = replace(CONNECTION_LOST, retry="unreachable")  # in the end no observation, but an error
NOT_AN_ANSWER = _failure("request invalid, data error", REQUEST_INVALID)


def cache_match(headers: Mapping[str, str]) -> CacheMatch | None:
    """Return what a reply's headers say of the server's cache; None for nothing, as from other servers.

    >>> cache_match({"x-cache": "HIT", "x-cache-match": "fuzzy"}), cache_match({"x-cache": "MISS"}), cache_match({})
    ('fuzzy', 'miss', None)
    """
    told = headers.get("x-cache", "")
    if told == "HIT" and headers.get("x-cache-match") == "fuzzy":
        return "fuzzy"
    return _MATCHES.get(told)


def read_reply(status: int, body: bytes, *, retry_after: str | None = None, cache: CacheMatch | None = None) -> Reply:
    """Judge one HTTP reply.

    `retry_after` is the header of that name. A recorded rate limit is not worth waiting for: the same request would
    get it again.
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
    is_replay = cache in ("hit", "fuzzy", "simulated")
    retry: RetryReason | None = "rate limit" if code in _RATE_LIMIT_CODES and not is_replay else None
    return Reply(observation, code, retry, cache=cache)
