"""Writes the server's own answers, and decides whether another server's answer is worth keeping.

The client gives six error texts a special meaning (`replies.py`). Of the texts here only
TOO_MANY_REQUESTS is one of them, and is meant to be.
"""

from __future__ import annotations

import json
from typing import Any

Answer = dict[str, Any]


def api_error(text: str) -> Answer:
    """Return an answer that tells the model what went wrong."""
    return {"error": text, "response": ""}


CHAT_WITH_USER: Answer = {"error": "", "response": "Chat with user."}
INPUT_NOT_JSON = api_error("Tool input parse error...\n")  # the newline is part of the contract's text
NOT_RECORDED = api_error("No response is recorded for this request.")
FORWARD_TIMEOUT = api_error("Timeout error...")
FORWARD_UNREACHABLE = api_error("The API server cannot be reached.")
FORWARD_NOT_AN_ANSWER = api_error("The API server's reply is not an API answer.")
TOO_MANY_REQUESTS = api_error("Too many requests error...")


def is_not_recorded(observation: str) -> bool:
    """Return whether an observation is the reply to a call that the response cache lacks.

    >>> is_not_recorded('{"error": "No response is recorded for this request.", "response": ""}'), is_not_recorded("{}")
    (True, False)
    """
    return observation == json.dumps(NOT_RECORDED)


# What a failed call looks like in the text of a real API's response; part of the contract, so that a
# cache folder recorded here has the same content as one recorded by StableToolBench's server.
_FAILURE_PHRASES = (
    "rate limit", "time out", "timed out", "does not exist", "404", "504", "500", "internal error",
    "authoriz", "authenticat", "unauthorized", "blocked", "unsubscribe", "401", "403", "credential",
    "disabled for your subscription", "invalid consumer key", "parameter", "parse", "is not defined",
)  # fmt: skip
_FAILURE_PHRASES_AS_WRITTEN = ("Service Not Found", "ACCESS_DENIED", "status_code=50", "status_code=429")


def is_good(answer: Answer) -> bool:
    """Return whether an answer from a real API is recorded: no error, and a response that reads like one.

    >>> is_good({"error": "", "response": "21 degrees"}), is_good({"error": "", "response": "Error 404"})
    (True, False)
    """
    if answer.get("error") != "" or "response" not in answer:
        return False
    text = str(answer["response"])
    if "got an unexpected keyword argument" in text:  # the API's honest verdict on wrong arguments
        return True
    if not text or any(phrase in text for phrase in _FAILURE_PHRASES_AS_WRITTEN):
        return False
    lowered = text.lower()
    return not any(phrase in lowered for phrase in _FAILURE_PHRASES)
