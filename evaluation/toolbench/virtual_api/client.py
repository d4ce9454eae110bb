"""Calls an API server: arguments in, observation and status code out, whatever a server says.

A server that says nothing to anybody gives no observation: the call raises, because what a model would make of
that is not an answer to its query.

One client serves all conversations of a process. `call` waits in the caller's thread; the HTTP work
runs on the client's own event loop, because only there can a whole call be given a time limit: a
server that sends a byte now and then satisfies any limit on single reads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import httpx

from evaluation.toolbench.http_client.exchange import ResponseTooLarge, new_http_client, post_json
from evaluation.toolbench.http_client.urls import parse_http_url, without_secrets, would_leak_key
from evaluation.toolbench.inference.errors import ApiError, ConfigError
from evaluation.toolbench.json_input import JsonError, parse_object
from evaluation.toolbench.virtual_api.replies import (
    CONNECTION_LOST,
    NOT_AN_ANSWER,
    SIMULATOR_FAILED,
    SUCCESS,
    TIMED_OUT,
    UNREACHABLE,
    Reply,
    RetryReason,
    cache_match,
    read_reply,
)
from evaluation.toolbench.virtual_api.simulator.state import SimulatorState

_log = logging.getLogger(__name__)
T = TypeVar("T")

# A server at ".../virtual" may ask a language model for its answer; ToolBench's own wait for any other is 15 s.
VIRTUAL_TIMEOUT_S = 120.0
TIMEOUT_S = 15.0
_LOOK_AGAIN_S = 2.0  # the longest wait before looking whether a server is back: that costs it nothing
_LOOK_S = 5.0
_MOST_FAILURES = 20  # reasons that are told
_CONNECTING_SHARE = 0.9  # of the time that a call has left


@dataclass(frozen=True)
class RetryPolicy:
    """Says how often a call is tried again, and how long it waits in between.

    `failures` counts lost connections and the statuses 429 and 5xx; `rate_limits` the answers "Too many
    requests error..." and "Rate limit per minute error...". A server that cannot be reached at all is looked
    for again for `unreachable_s` seconds, in which it can be started anew. The wait doubles from
    the first to the longest one and is shortened at random by up to half, so that conversations that failed
    together do not return together. All of it happens within the time limit of the call.
    """

    failures: int = 4
    unreachable_s: float = 30.0
    first_wait_s: float = 0.25
    rate_limits: int = 2
    first_rate_limit_wait_s: float = 1.0
    longest_wait_s: float = 8.0

    def __post_init__(self) -> None:
        if any(number < 0 for number in vars(self).values()):
            raise ConfigError(f"retries and waits must be 0 or above: {self}")

    def wait_s(self, reply: Reply, num_retries: int, waited_s: float, rng: random.Random) -> float | None:
        """Return seconds to wait before asking again after `num_retries` retries for the same reason, the first of them
        `waited_s` seconds ago; None: give up."""
        if reply.retry == "unreachable":
            if waited_s >= self.unreachable_s:
                return None
            # The exponent is bounded for the sake of large numbers only.
            backoff = self.first_wait_s * 2 ** min(num_retries, 16) * rng.uniform(0.5, 1.0)
            return min(backoff, self.longest_wait_s, _LOOK_AGAIN_S, self.unreachable_s - waited_s)
        if reply.retry is None or num_retries >= (self.failures if reply.retry == "failure" else self.rate_limits):
            return None
        first = self.first_wait_s if reply.retry == "failure" else self.first_rate_limit_wait_s
        backoff = first * 2**num_retries * rng.uniform(0.5, 1.0)
        return min(max(backoff, reply.retry_after_s or 0.0), self.longest_wait_s)


@dataclass(frozen=True)
class ApiStats:
    """Holds a snapshot. Latency is per call, its retries and waits included."""

    calls: int
    calls_by_code: Mapping[int, int]  # the contract's status codes
    retries: int
    total_latency_s: float
    max_latency_s: float

    @property
    def errors(self) -> int:
        """Return calls that ended with any code but 0."""
        return self.calls - self.calls_by_code.get(SUCCESS, 0)


class ApiClient:
    """Calls APIs at `service_url` (".../virtual"). All methods may be called from any thread.

    `timeout_s` is the longest a call may take, retries included; None: 120 s for a URL that ends in
    "virtual", 15 s for any other. A response longer than `max_response_bytes` is not read further and
    counts as no answer. A deep copy is the client itself: environments that are copied with every step
    share their connections.
    """

    def __init__(
        self,
        service_url: str,
        *,
        toolbench_key: str = "",
        timeout_s: float | None = None,
        connect_timeout_s: float = 10.0,
        retry: RetryPolicy | None = None,
        max_response_bytes: int = 8 * 2**20,
    ) -> None:
        self._url = parse_http_url(service_url, "SERVICE_URL")
        self._key = _header_value(toolbench_key)
        default_s = VIRTUAL_TIMEOUT_S if self._url.path.endswith("virtual") else TIMEOUT_S
        self._timeout_s = default_s if timeout_s is None else timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._retry = retry or RetryPolicy()
        self._max_response_bytes = max_response_bytes
        if self._key and would_leak_key(self._url):
            _log.warning("The ToolBench key is sent unencrypted to %s; https:// would protect it.", self._shown_url)
        self._rng = random.Random()  # its own: waiting must not change what a seeded run draws
        self._codes: Counter[int] = Counter()
        self._num_retries = 0
        self._total_latency_s = 0.0
        self._max_latency_s = 0.0
        self._unreachable_since: float | None = None  # of the loop's time; only the loop touches it
        self._failures: set[str] = set()  # of the server's simulator, that were told; likewise
        self._lock = threading.Lock()
        self._is_closed = False
        self._http = new_http_client(self._url, connect_timeout_s=connect_timeout_s)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api-client", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"ApiClient({self._shown_url!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> ApiClient:
        return self

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        *,
        category: str,
        tool_name: str,
        api_name: str,
        tool_input: str | dict[str, Any],
        strip: str,
        timeout_s: float | None = None,
    ) -> tuple[str, int]:
        """Return (observation, status code) of one API call: see `ask`."""
        reply = self.ask(
            category=category,
            tool_name=tool_name,
            api_name=api_name,
            tool_input=tool_input,
            strip=strip,
            timeout_s=timeout_s,
        )
        return reply.observation, reply.code

    def ask(
        self,
        *,
        category: str,
        tool_name: str,
        api_name: str,
        tool_input: str | dict[str, Any],
        strip: str,
        timeout_s: float | None = None,
    ) -> Reply:
        """Return the reply to one API call; `replies.py` has the table of codes.

        A server that answers, whatever that is, and one that takes too long is an observation and a code.
        ApiError for one that cannot be reached at all, for as long as the retry policy or `timeout_s`, which may
        shorten the call's own limit, allow; and when the client is closed, also during the call.
        """
        request = {
            "category": category,
            "tool_name": tool_name,
            "api_name": api_name,
            "tool_input": tool_input,
            "strip": strip,
            "toolbench_key": self._key,
        }
        started = time.monotonic()
        limit_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        reply, num_retries = self._run(self._ask(json.dumps(request).encode(), limit_s))
        seconds = time.monotonic() - started
        self._count(reply.code, num_retries, latency_s=seconds)
        if reply.retry == "unreachable":
            raise ApiError(
                f"The API server at {self._shown_url} could not be reached for {seconds:.0f} s: start it again, or set "
                "SERVICE_URL to another one",
                url=self._shown_url,
                seconds=seconds,
            )
        return reply

    def check(self, *, tries: int = 3, timeout_s: float = 5.0) -> None:
        """Return if an API server answers; else ApiError. Sends no key and calls no API."""
        started = time.monotonic()
        reason = self._run(self._reason_to_doubt(tries, timeout_s))
        if reason is not None:
            seconds = time.monotonic() - started
            num_tries = f"{tries} tries" if tries > 1 else "1 try"
            raise ApiError(
                f"No virtual API server at {self._shown_url} ({reason}, {num_tries} in {seconds:.1f} s). Start it with "
                "python -m evaluation.toolbench.virtual_api --cache_dir DIR, or set SERVICE_URL.",
                url=self._shown_url,
                reason=reason,
            )

    def health(self, *, timeout_s: float = 30.0) -> dict[str, Any] | None:
        """Return what the server says of itself; None for one that is not of this package, or says nothing in time.

        It counts the files of its cache for that, which takes a while on a network's disk.
        """
        return self._run(self._get_health(timeout_s))

    def simulator(self, *, timeout_s: float = 30.0) -> SimulatorState | None:
        """Return what the server tells of its simulator; None for one that is not of this package, or says nothing."""
        return self._run(self._get_simulator(timeout_s))

    def stats(self) -> ApiStats:
        """Return what happened so far."""
        with self._lock:
            return ApiStats(
                calls=self._codes.total(),
                calls_by_code=dict(sorted(self._codes.items())),
                retries=self._num_retries,
                total_latency_s=self._total_latency_s,
                max_latency_s=self._max_latency_s,
            )

    def close(self) -> None:
        """Drop calls in flight (they raise ApiError) and close the connections. Closing twice is fine."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        asyncio.run_coroutine_threadsafe(self._drop_everything(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _beside(self, path: str) -> httpx.URL:
        return self._url.copy_with(path=self._url.path.rpartition("/")[0] + path, query=None)

    @property
    def _shown_url(self) -> str:
        return without_secrets(self._url)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the client's loop and wait for it here."""
        with self._lock:
            if self._is_closed:
                work.close()
                raise ApiError(f"The API client of {self._shown_url} is closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ApiError(f"The API client of {self._shown_url} was closed during a call") from None
        except KeyboardInterrupt:
            future.cancel()
            raise

    async def _ask(self, content: bytes, timeout_s: float) -> tuple[Reply, int]:
        """Return the reply to one call, and how many retries it took."""
        deadline = self._loop.time() + timeout_s
        retries: Counter[RetryReason] = Counter()
        first_met: dict[RetryReason, float] = {}
        while True:
            reply = await self._ask_once(content, deadline)
            if reply.retry is None:
                return reply, retries.total()
            now = self._loop.time()
            waited_s = now - first_met.setdefault(reply.retry, now)
            wait_s = self._retry.wait_s(reply, retries[reply.retry], waited_s, self._rng)
            if wait_s is None:
                return reply, retries.total()
            if now + wait_s >= deadline:
                if reply.retry == "unreachable":  # its caller can tell by the time whose limit that was
                    await asyncio.sleep(deadline - now)
                return reply, retries.total()
            retries[reply.retry] += 1
            await asyncio.sleep(wait_s)

    async def _ask_once(self, content: bytes, deadline: float) -> Reply:
        left_s = deadline - self._loop.time()
        exchange = post_json(
            self._http,
            self._url,
            content,
            toolbench_key=self._key,
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
            return NOT_AN_ANSWER
        except (httpx.HTTPError, OSError) as error:
            _log.debug("call to %s failed: %s", self._shown_url, type(error).__name__)
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

    def _note_outage(self, error: Exception) -> Reply:
        if self._unreachable_since is None:
            self._unreachable_since = self._loop.time()
            _log.warning(
                "The API server at %s is gone (%s): calls wait up to %.0f s for it.",
                self._shown_url,
                _describe(error),
                min(self._retry.unreachable_s, self._timeout_s),
            )
        return UNREACHABLE

    def _note_answer(self) -> None:
        if self._unreachable_since is not None:
            seconds = self._loop.time() - self._unreachable_since
            self._unreachable_since = None
            _log.warning("The API server at %s is back after %.1f s.", self._shown_url, seconds)

    def _note_simulator(self, failure: str | None) -> None:
        """Say once for each reason why calls get no simulated reply."""
        if failure and failure not in self._failures and len(self._failures) < _MOST_FAILURES:
            self._failures.add(failure)
            _log.warning("Calls are not simulated: %s. Those are answered with an error.", failure)

    async def _reason_to_doubt(self, tries: int, timeout_s: float) -> str | None:
        """Return why there seems to be no API server; None when there is one."""
        reason = None
        for attempt in range(tries):
            if attempt:
                await asyncio.sleep(self._retry.first_wait_s * 2**attempt)
            reason = await self._probe(timeout_s)
            if reason is None:
                break
        return reason

    async def _probe(self, timeout_s: float) -> str | None:
        """Probe once: GET /health beside the service (StableToolBench's server has none), then the service URL."""
        try:
            await asyncio.wait_for(self._get_status(self._beside("/health")), timeout_s)
            # A service that only takes POST answers 405; a server that is not an API server, or a wrong path, 404.
            status = await asyncio.wait_for(self._get_status(self._url), timeout_s)
        except (asyncio.TimeoutError, httpx.TimeoutException):
            return f"no answer within {timeout_s:g} s"
        except (httpx.HTTPError, OSError) as error:
            return _describe(error)
        if status == 404 or 300 <= status < 400 or status >= 500:
            return f"status {status}"
        return None

    async def _get_health(self, timeout_s: float) -> dict[str, Any] | None:
        try:
            reply = await asyncio.wait_for(self._http.get(self._beside("/health")), timeout_s)
            health = parse_object(reply.content)
        except (asyncio.TimeoutError, httpx.HTTPError, JsonError, OSError):
            return None
        return health if {"cache_dir", "files"} <= health.keys() else None

    async def _get_simulator(self, timeout_s: float) -> SimulatorState | None:
        try:
            reply = await asyncio.wait_for(self._http.get(self._beside("/simulator")), timeout_s)
            values = parse_object(reply.content) if reply.status_code == HTTPStatus.OK else {}
        except (asyncio.TimeoutError, httpx.HTTPError, JsonError, OSError):
            return None
        return SimulatorState.from_json(values) if "prompt_sha256" in values else None

    async def _is_there(self, deadline: float) -> bool:
        """Return whether somebody answers where the service should be; who takes long may still do so."""
        try:
            await asyncio.wait_for(self._get_status(self._url), min(_LOOK_S, deadline - self._loop.time()))
        except asyncio.TimeoutError:
            return True
        except (httpx.HTTPError, OSError):
            return False
        return True

    async def _get_status(self, url: httpx.URL) -> int:
        async with self._http.stream("GET", url) as response:  # the body, of whatever size, is not read
            return response.status_code

    async def _drop_everything(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._http.aclose()

    def _count(self, code: int, num_retries: int, *, latency_s: float) -> None:
        with self._lock:
            self._codes[code] += 1
            self._num_retries += num_retries
            self._total_latency_s += latency_s
            self._max_latency_s = max(self._max_latency_s, latency_s)


def _header_value(key: str) -> str:
    """Return `key` without surrounding white space; ConfigError, not quoting it, if HTTP cannot carry it."""
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("The ToolBench key has characters that an HTTP header cannot carry. Check TOOLBENCH_KEY.")
    return key


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
