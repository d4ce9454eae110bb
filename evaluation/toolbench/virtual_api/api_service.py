"""Asks the API server that SERVICE_URL names, once each time, and keeps in mind whether it is there.

Whatever happens to a request is a `Reply`: to ask again is the client's business, and within which limits.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any

import httpx

from evaluation.toolbench.http_client.exchange import ResponseTooLarge, get, new_http_client, post_json
from evaluation.toolbench.http_client.urls import without_secrets, would_leak_key
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.json_input import JsonError, parse_object
from evaluation.toolbench.virtual_api.replies import (
    CONNECTION_LOST,
    NOT_AN_ANSWER,
    SIMULATOR_FAILED,
    TIMED_OUT,
    UNREACHABLE,
    Reply,
    cache_match,
    read_reply,
)
from evaluation.toolbench.virtual_api.simulator.state import SimulatorState

_log = logging.getLogger(__name__)

_LOOK_S = 5.0
_MOST_FAILURES = 20  # reasons that are told
_CONNECTING_SHARE = 0.9  # of the time that a call has left


class ApiService:
    """Asks the API server at `url` (".../virtual"). All coroutines belong to one event loop.

    `toolbench_key` goes with every call; ConfigError, not quoting it, if HTTP cannot carry it. A response longer than
    `max_response_bytes` is not read further and counts as no answer. `patience_s` is how long calls wait for a server
    that is away, for the log alone.
    """

    def __init__(
        self,
        url: httpx.URL,
        *,
        toolbench_key: str,
        connect_timeout_s: float,
        max_response_bytes: int,
        patience_s: float,
    ) -> None:
        self._url = url
        self.toolbench_key = _header_value(toolbench_key)
        self._connect_timeout_s = connect_timeout_s
        self._max_response_bytes = max_response_bytes
        self._patience_s = patience_s
        if self.toolbench_key and would_leak_key(self._url):
            _log.warning("The ToolBench key is sent unencrypted to %s; https:// would protect it.", self.shown_url)
        self._unreachable_since: float | None = None  # of the loop's time
        self._failures: set[str] = set()  # of the server's simulator, that were told
        self._http = new_http_client(self._url, connect_timeout_s=connect_timeout_s)

    @property
    def shown_url(self) -> str:
        """Return the URL for messages: without user name, password and query."""
        return without_secrets(self._url)

    async def ask(self, content: bytes, deadline: float) -> Reply:
        """Return the reply to one request, by `deadline` of the loop's time."""
        left_s = deadline - _now()
        exchange = post_json(
            self._http,
            self._url,
            content,
            toolbench_key=self.toolbench_key,
            max_response_bytes=self._max_response_bytes,
            # Over before the call is: whether a server was slow or not there makes a difference.
            connect_timeout_s=min(self._connect_timeout_s, _CONNECTING_SHARE * left_s),
        )
        try:
            reply = await asyncio.wait_for(exchange, left_s)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return self._note_outage(error)
        except (asyncio.TimeoutError, httpx.TimeoutException):
            return TIMED_OUT
        except (ResponseTooLarge, httpx.DecodingError):
            self._note_answer()
            return NOT_AN_ANSWER
        except (httpx.HTTPError, OSError) as error:
            _log.debug("call to %s failed: %s", self.shown_url, type(error).__name__)
            # This call's fault, or the server's end? A tunnel or a proxy in between lets one connect to nobody.
            return CONNECTION_LOST if await self._is_there(deadline) else self._note_outage(error)
        self._note_answer()
        self._note_simulator(reply.headers.get(SIMULATOR_FAILED))
        return read_reply(
            reply.status,
            reply.body,
            retry_after=reply.headers.get("retry-after"),
            cache=cache_match(reply.headers),
        )

    async def reason_to_doubt(self, timeout_s: float) -> str | None:
        """Return why there seems to be no API server; None when there is one. No key is sent and no API called.

        GET /health beside the service (StableToolBench's server has none), then the service URL.
        """
        try:
            await asyncio.wait_for(self._get_status(self._beside("/health")), timeout_s)
            status = await asyncio.wait_for(self._get_status(self._url), timeout_s)
        except (asyncio.TimeoutError, httpx.TimeoutException):
            return f"no answer within {timeout_s:g} s"
        except (httpx.HTTPError, OSError) as error:
            return _describe(error)
        return None if _is_of_a_service(status) else f"status {status}"

    async def health(self, timeout_s: float) -> dict[str, Any] | None:
        """Return what the server says of itself; None for one that is not of this package, or says nothing in time."""
        _, health = await self._get_object("/health", timeout_s)
        return health if {"cache_dir", "files"} <= health.keys() else None

    async def simulator(self, timeout_s: float) -> SimulatorState | None:
        """Return what the server tells of its simulator; None for one that is not of this package, or says nothing."""
        status, values = await self._get_object("/simulator", timeout_s)
        return SimulatorState.from_json(values) if status == HTTPStatus.OK and "prompt_sha256" in values else None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _note_outage(self, error: Exception) -> Reply:
        if self._unreachable_since is None:
            self._unreachable_since = _now()
            _log.warning(
                "The API server at %s is gone (%s): calls wait up to %.0f s for it.",
                self.shown_url,
                _describe(error),
                self._patience_s,
            )
        return UNREACHABLE

    def _note_answer(self) -> None:
        if self._unreachable_since is not None:
            seconds = _now() - self._unreachable_since
            self._unreachable_since = None
            _log.warning("The API server at %s is back after %.1f s.", self.shown_url, seconds)

    def _note_simulator(self, failure: str | None) -> None:
        """Say once for each reason why calls get no simulated reply."""
        if failure and failure not in self._failures and len(self._failures) < _MOST_FAILURES:
            self._failures.add(failure)
            _log.warning("Calls are not simulated: %s. Those are answered with an error.", failure)

    async def _is_there(self, deadline: float) -> bool:
        """Return whether somebody answers where the service should be; who takes long may still do so."""
        try:
            await asyncio.wait_for(self._get_status(self._url), min(_LOOK_S, deadline - _now()))
        except asyncio.TimeoutError:
            return True
        except (httpx.HTTPError, OSError):
            return False
        return True

    async def _get_status(self, url: httpx.URL) -> int:
        async with self._http.stream("GET", url) as response:  # the body, of whatever size, is not read
            return response.status_code

    async def _get_object(self, path: str, timeout_s: float) -> tuple[int, dict[str, Any]]:
        """Return (status, JSON object) from beside the service; (0, {}) where none comes in time."""
        try:
            exchange = get(self._http, self._beside(path), max_response_bytes=self._max_response_bytes)
            reply = await asyncio.wait_for(exchange, timeout_s)
            return reply.status, parse_object(reply.body)
        except (asyncio.TimeoutError, httpx.HTTPError, ResponseTooLarge, JsonError, OSError):
            return 0, {}

    def _beside(self, path: str) -> httpx.URL:
        return self._url.copy_with(path=self._url.path.rpartition("/")[0] + path, query=None)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _header_value(key: str) -> str:
    """Return `key` without surrounding white space; ConfigError, not quoting it, if HTTP cannot carry it."""
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("The ToolBench key has characters that an HTTP header cannot carry. Check TOOLBENCH_KEY.")
    return key


def _is_of_a_service(status: int) -> bool:
    """Return whether an API server may give `status` to a GET.

    A service that only takes POST answers 405; a server that is not an API server, or a wrong path, 404.
    """
    return not (status == 404 or 300 <= status < 400 or status >= 500)


def _describe(error: Exception) -> str:
    """Describe it in a few words; the operating system's own error is at the end of the chain."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "refused"
        if isinstance(cause, ConnectionResetError):
            return "connection reset"
        cause = cause.__cause__ or cause.__context__
    return "no connection in time" if isinstance(error, httpx.ConnectTimeout) else str(error) or type(error).__name__
