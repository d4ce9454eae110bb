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
import random
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from evaluation.toolbench.http_client.urls import parse_http_url
from evaluation.toolbench.inference.command_line import launcher_name
from evaluation.toolbench.inference.errors import ApiError
from evaluation.toolbench.virtual_api.api_service import ApiService
from evaluation.toolbench.virtual_api.replies import SUCCESS, Reply
from evaluation.toolbench.virtual_api.retry_policy import CallRetries, CallRetryPolicy
from evaluation.toolbench.virtual_api.simulator.state import SimulatorState

T = TypeVar("T")

# A server at ".../virtual" may ask a language model for its answer; ToolBench's own wait for any other is 15 s.
VIRTUAL_TIMEOUT_S = 120.0
TIMEOUT_S = 15.0


@dataclass(frozen=True)
class ApiStats:
    """Counts calls and their retries until now."""

    calls: int
    calls_by_code: Mapping[int, int]  # the contract's status codes
    retries: int

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
        retry: CallRetryPolicy | None = None,
        max_response_bytes: int = 8 * 2**20,
    ) -> None:
        url = parse_http_url(service_url, "SERVICE_URL")
        default_s = VIRTUAL_TIMEOUT_S if url.path.endswith("virtual") else TIMEOUT_S
        self._timeout_s = default_s if timeout_s is None else timeout_s
        self._retry = retry or CallRetryPolicy()
        self._service = ApiService(
            url,
            toolbench_key=toolbench_key,
            connect_timeout_s=connect_timeout_s,
            max_response_bytes=max_response_bytes,
            patience_s=min(self._retry.unreachable_s, self._timeout_s),
        )
        self._shown_url = self._service.shown_url
        self._rng = random.Random()  # its own: waiting must not change what a seeded run draws
        self._codes: Counter[int] = Counter()
        self._num_retries = 0
        self._lock = threading.Lock()
        self._is_closed = False
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
            "toolbench_key": self._service.toolbench_key,
        }
        started = time.monotonic()
        limit_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        reply, num_retries = self._run(self._ask(json.dumps(request).encode(), limit_s))
        seconds = time.monotonic() - started
        self._count(reply.code, num_retries)
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
                f"{launcher_name()} api --cache_dir DIR, or set SERVICE_URL.",
                url=self._shown_url,
                reason=reason,
            )

    def health(self, *, timeout_s: float = 30.0) -> dict[str, Any] | None:
        """Return what the server says of itself; None for one that is not of this package, or says nothing in time.

        It counts the files of its cache for that, which takes a while on a network's disk.
        """
        return self._run(self._service.health(timeout_s))

    def simulator(self, *, timeout_s: float = 30.0) -> SimulatorState | None:
        """Return what the server tells of its simulator; None for one that is not of this package, or says nothing."""
        return self._run(self._service.simulator(timeout_s))

    def stats(self) -> ApiStats:
        """Return what happened so far."""
        with self._lock:
            return ApiStats(
                calls=self._codes.total(),
                calls_by_code=dict(sorted(self._codes.items())),
                retries=self._num_retries,
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
        retries = CallRetries(self._retry, deadline, self._rng)
        while True:
            reply = await self._service.ask(content, deadline)
            step = retries.after(reply, self._loop.time())
            if step.wait_s:
                await asyncio.sleep(step.wait_s)
            if not step.asks_again:
                return reply, retries.count

    async def _reason_to_doubt(self, tries: int, timeout_s: float) -> str | None:
        """Return why there seems to be no API server, by the last of at most `tries` looks; None when there is one."""
        reason = None
        for attempt in range(tries):
            if attempt:
                await asyncio.sleep(self._retry.first_wait_s * 2**attempt)
            reason = await self._service.reason_to_doubt(timeout_s)
            if reason is None:
                break
        return reason

    async def _drop_everything(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._service.close()

    def _count(self, code: int, num_retries: int) -> None:
        with self._lock:
            self._codes[code] += 1
            self._num_retries += num_retries
