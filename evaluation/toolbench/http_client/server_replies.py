"""Reads what OpenAI-compatible servers answer: a JSON object, or a failure that has a kind. Pure."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import httpx

from evaluation.toolbench.http_client.exchange import retry_after_s
from evaluation.toolbench.json_input import JsonError, parse_json, parse_object

_LONGEST_QUOTE = 300  # characters of a server's own words in a message

# "busy": later, for as long as there is patience. "failed": may be the request's own fault. "lost": the server
# could not be reached, the request was not read. "unfit": this server cannot serve us as it is. "refused": no
# server will serve this request.
FailureKind = Literal["busy", "failed", "lost", "unfit", "refused"]


class Failure(Exception):
    """Says why there is no answer, in words that go on a sentence about the server."""

    def __init__(self, kind: FailureKind, words: str, retry_after_s: float = 0.0) -> None:
        super().__init__(words)
        self.kind = kind
        self.words = words
        self.retry_after_s = retry_after_s


def raise_for_status(status: int, headers: Mapping[str, str], body: bytes, *, key_variable: str) -> None:
    """Raise a Failure for every status but 200. `key_variable` names where users put the server's key."""
    if status == 200:
        return
    words = f"answered with status {status}{_quote(headers, body)}"
    if status in (401, 403):
        raise Failure("unfit", f"refuses the key (status {status}): set {key_variable} to the server's key")
    if status == 404:
        raise Failure("unfit", words)
    if status in (429, 502, 503, 504):
        raise Failure("busy", words, retry_after_s(headers.get("retry-after")) or 0.0)
    if status >= 500:
        raise Failure("failed", words)
    if 300 <= status < 400:
        raise Failure("unfit", f"{words}: give the URL that it redirects to")
    raise Failure("refused", words)


def read_object(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return the JSON object in a reply's body; Failure when there is none."""
    try:
        return parse_object(body)
    except JsonError:
        kind = headers.get("content-type", "").partition(";")[0] or "no content type"
        raise Failure("failed", f"answered with what is not a JSON object ({kind}, {len(body)} bytes)") from None


def error_words(reply: Any) -> str:
    """Return the message in any of the forms that servers give errors."""
    error = reply.get("error", reply) if isinstance(reply, dict) else reply
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return " ".join(str(error).split())[:_LONGEST_QUOTE]


def explain(error: BaseException) -> str:
    """Return a connection's failure in words that a person can act on; the system's own error is deep in the chain."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its TLS certificate is not trusted ({cause.verify_message}): SSL_CERT_FILE names a file with its "
                "authority's certificate"
            )
        if isinstance(cause, ssl.SSLError):
            return f"it does not speak TLS as expected ({cause.reason}): is it http://, not https://?"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused: no server listens there"
        if isinstance(cause, ConnectionResetError):
            return "connection reset"
        if isinstance(cause, socket.gaierror):
            return "its host name is not known"
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection within the time limit"
    if isinstance(error, httpx.RemoteProtocolError):
        return "it was closed without an HTTP reply (does the URL need https://, or has the server stopped?)"
    return " ".join(str(error).split()) or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error` and everything that led to it, the outermost first."""
    while error is not None:
        yield error
        for other in getattr(error, "exceptions", ()):  # one for each address of a host name
            yield from _causes(other)
        error = error.__cause__ or error.__context__


def _quote(headers: Mapping[str, str], body: bytes) -> str:
    """Return what the server says itself, as the end of a sentence."""
    try:
        words = error_words(parse_json(body))
    except JsonError:
        words = "" if "html" in headers.get("content-type", "") else body.decode(errors="replace")
    words = " ".join(words.split())[:_LONGEST_QUOTE]
    return f": {words}" if words else ""
